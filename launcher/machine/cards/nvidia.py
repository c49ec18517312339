"""List NVIDIA's cards since Maxwell, the oldest that llama.cpp's CUDA backend is built for. Pure."""

from __future__ import annotations

from launcher.machine.cards.card import Gpu
from launcher.machine.machine import Backend

# INT8 operations (FP16 where a part has no faster INT8) for each FP32 operation of the shader cores, by
# compute capability, from the architecture whitepapers: Maxwell none; P100 packed FP16; Pascal DP4A; Volta
# FP16 tensor cores; from Turing on INT8 tensor cores, which data-centre parts have more of.
_OPS_PER_FLOP = {
    "5.2": 1.0, "6.0": 2.0, "6.1": 4.0, "7.0": 8.0, "7.5": 16.0, "8.0": 32.0, "8.6": 8.0, "8.7": 16.0,
    "8.9": 8.0, "9.0": 29.5, "10.0": 60.0, "10.3": 60.0, "11.0": 16.0, "12.0": 8.0, "12.1": 8.0,
}  # fmt: skip
_TURING_WITHOUT_TENSOR_CORES = {"1650", "1650super", "1660", "1660super", "1660ti"}  # DP4A only
_H20_TERA_OPS = 296.0  # cut down: H20's data sheet

# Sources of the memory, by the letter of a row:
#   s  total as `nvidia-smi` reports it, from published logs and vendor pages (nominal size minus what ECC and
#      the display engine keep); reserved: total minus the "VRAM" that llama.cpp prints for the same card on
#      Linux (ggml_cuda_init, R570 to R580 drivers), from published logs
#   n  the same total, of older drivers where they differ (the smaller); no Linux log of this card was found,
#      the reserve is that of the nearest card with one (H200: total minus the 139.80 GiB that PyTorch names)
# PCI Express, compute capability, bandwidth (GB/s) and FP32 TFLOPS are from the vendor's specification pages,
# whitepapers and the CUDA GPU list; of laptop parts at the highest power (the laptop's maker decides).
# short name: driver's name, total MiB, reserved MiB, PCIe generation, lanes, compute capability, source,
# GB/s, FP32 TFLOPS
_GEFORCE: dict[str, tuple[str, int, int, int, int, str, str, float, float]] = {
    "970": ("NVIDIA GeForce GTX 970", 4036, 379, 3, 16, "5.2", "n", 196, 3.9),
    "980": ("NVIDIA GeForce GTX 980", 4036, 379, 3, 16, "5.2", "n", 224, 5.0),
    "980ti": ("NVIDIA GeForce GTX 980 Ti", 6075, 379, 3, 16, "5.2", "n", 336, 6.1),
    "titanx": ("NVIDIA GeForce GTX TITAN X", 12202, 379, 3, 16, "5.2", "n", 336, 6.7),
    "1050ti": ("NVIDIA GeForce GTX 1050 Ti", 4033, 379, 3, 16, "6.1", "n", 112, 2.1),
    "1060": ("NVIDIA GeForce GTX 1060 6GB", 6072, 379, 3, 16, "6.1", "n", 192, 4.4),
    "1070": ("NVIDIA GeForce GTX 1070", 8110, 379, 3, 16, "6.1", "n", 256, 6.5),
    "1070ti": ("NVIDIA GeForce GTX 1070 Ti", 8110, 379, 3, 16, "6.1", "n", 256, 8.2),
    "1080": ("NVIDIA GeForce GTX 1080", 8110, 379, 3, 16, "6.1", "n", 320, 8.9),
    "1080ti": ("NVIDIA GeForce GTX 1080 Ti", 11169, 379, 3, 16, "6.1", "n", 484, 11.3),
    "titanxp": ("NVIDIA TITAN Xp", 12189, 379, 3, 16, "6.1", "n", 548, 12.1),
    "titanv": ("NVIDIA TITAN V", 12036, 455, 3, 16, "7.0", "n", 653, 14.9),
    "1650": ("NVIDIA GeForce GTX 1650", 3901, 379, 3, 16, "7.5", "n", 128, 3.0),
    "1650super": ("NVIDIA GeForce GTX 1650 SUPER", 3901, 379, 3, 16, "7.5", "n", 192, 4.4),
    "1660": ("NVIDIA GeForce GTX 1660", 5941, 379, 3, 16, "7.5", "n", 192, 5.0),
    "1660super": ("NVIDIA GeForce GTX 1660 SUPER", 5941, 379, 3, 16, "7.5", "n", 336, 5.0),
    "1660ti": ("NVIDIA GeForce GTX 1660 Ti", 5941, 379, 3, 16, "7.5", "n", 288, 5.4),
    "2060": ("NVIDIA GeForce RTX 2060", 5931, 379, 3, 16, "7.5", "n", 336, 6.5),
    "2060-12g": ("NVIDIA GeForce RTX 2060", 12041, 379, 3, 16, "7.5", "n", 336, 7.2),
    "2060super": ("NVIDIA GeForce RTX 2060 SUPER", 7979, 379, 3, 16, "7.5", "n", 448, 7.2),
    "2070": ("NVIDIA GeForce RTX 2070", 7979, 379, 3, 16, "7.5", "n", 448, 7.5),
    "2070super": ("NVIDIA GeForce RTX 2070 SUPER", 7979, 379, 3, 16, "7.5", "n", 448, 9.1),
    "2080": ("NVIDIA GeForce RTX 2080", 7979, 379, 3, 16, "7.5", "n", 448, 10.1),
    "2080super": ("NVIDIA GeForce RTX 2080 SUPER", 7979, 379, 3, 16, "7.5", "n", 496, 11.2),
    "2080ti": ("NVIDIA GeForce RTX 2080 Ti", 11016, 379, 3, 16, "7.5", "n", 616, 13.4),
    "2080ti-22g": ("NVIDIA GeForce RTX 2080 Ti", 22528, 455, 3, 16, "7.5", "n", 616, 13.4),
    "titanrtx": ("NVIDIA TITAN RTX", 24217, 455, 3, 16, "7.5", "n", 672, 16.3),
    "3050": ("NVIDIA GeForce RTX 3050", 8192, 379, 4, 8, "8.6", "n", 224, 9.1),
    "3050-6g": ("NVIDIA GeForce RTX 3050", 6144, 379, 4, 8, "8.6", "n", 168, 6.8),
    "3060": ("NVIDIA GeForce RTX 3060", 12288, 379, 4, 16, "8.6", "s", 360, 12.7),
    "3060-8g": ("NVIDIA GeForce RTX 3060", 8192, 379, 4, 16, "8.6", "n", 240, 12.7),
    "3060ti": ("NVIDIA GeForce RTX 3060 Ti", 8192, 379, 4, 16, "8.6", "n", 448, 16.2),
    "3070": ("NVIDIA GeForce RTX 3070", 8192, 379, 4, 16, "8.6", "n", 448, 20.3),
    "3070ti": ("NVIDIA GeForce RTX 3070 Ti", 8192, 379, 4, 16, "8.6", "n", 608, 21.7),
    "3080": ("NVIDIA GeForce RTX 3080", 10240, 379, 4, 16, "8.6", "n", 760, 29.8),
    "3080-12g": ("NVIDIA GeForce RTX 3080", 12288, 379, 4, 16, "8.6", "n", 912, 30.6),
    "3080ti": ("NVIDIA GeForce RTX 3080 Ti", 12288, 379, 4, 16, "8.6", "n", 912, 34.1),
    "3090": ("NVIDIA GeForce RTX 3090", 24576, 455, 4, 16, "8.6", "s", 936, 35.6),
    "3090ti": ("NVIDIA GeForce RTX 3090 Ti", 24564, 455, 4, 16, "8.6", "n", 1008, 40.0),
    "4060": ("NVIDIA GeForce RTX 4060", 8188, 436, 4, 8, "8.9", "n", 272, 15.1),
    "4060ti": ("NVIDIA GeForce RTX 4060 Ti", 8188, 436, 4, 8, "8.9", "n", 288, 22.1),
    "4060ti-16g": ("NVIDIA GeForce RTX 4060 Ti", 16380, 436, 4, 8, "8.9", "s", 288, 22.1),
    "4070": ("NVIDIA GeForce RTX 4070", 12282, 409, 4, 16, "8.9", "s", 504, 29.1),
    "4070super": ("NVIDIA GeForce RTX 4070 SUPER", 12282, 409, 4, 16, "8.9", "n", 504, 35.5),
    "4070ti": ("NVIDIA GeForce RTX 4070 Ti", 12282, 409, 4, 16, "8.9", "n", 504, 40.1),
    "4070tisuper": ("NVIDIA GeForce RTX 4070 Ti SUPER", 16376, 436, 4, 16, "8.9", "n", 672, 44.1),
    "4080": ("NVIDIA GeForce RTX 4080", 16376, 436, 4, 16, "8.9", "n", 717, 48.7),
    "4080super": ("NVIDIA GeForce RTX 4080 SUPER", 16376, 436, 4, 16, "8.9", "n", 736, 52.2),
    "4090": ("NVIDIA GeForce RTX 4090", 24564, 484, 4, 16, "8.9", "s", 1008, 82.6),
    "4090d": ("NVIDIA GeForce RTX 4090 D", 24564, 484, 4, 16, "8.9", "n", 1008, 73.5),
    "4090-48g": ("NVIDIA GeForce RTX 4090", 49140, 569, 4, 16, "8.9", "n", 1008, 82.6),
    "5050": ("NVIDIA GeForce RTX 5050", 8151, 486, 5, 8, "12.0", "n", 320, 13.2),
    "5060": ("NVIDIA GeForce RTX 5060", 8151, 486, 5, 8, "12.0", "n", 448, 19.2),
    "5060ti": ("NVIDIA GeForce RTX 5060 Ti", 8151, 486, 5, 8, "12.0", "n", 448, 23.7),
    "5060ti-16g": ("NVIDIA GeForce RTX 5060 Ti", 16311, 486, 5, 8, "12.0", "s", 448, 23.7),
    "5070": ("NVIDIA GeForce RTX 5070", 12227, 461, 5, 16, "12.0", "n", 672, 30.9),
    "5070ti": ("NVIDIA GeForce RTX 5070 Ti", 16303, 461, 5, 16, "12.0", "s", 896, 43.9),
    "5080": ("NVIDIA GeForce RTX 5080", 16303, 461, 5, 16, "12.0", "n", 960, 56.3),
    "5090": ("NVIDIA GeForce RTX 5090", 32607, 458, 5, 16, "12.0", "s", 1792, 104.8),
    "5090d": ("NVIDIA GeForce RTX 5090 D", 32607, 458, 5, 16, "12.0", "n", 1792, 104.8),
}
_LAPTOP: dict[str, tuple[str, int, int, int, int, str, str, float, float]] = {
    "2060-laptop": ("NVIDIA GeForce RTX 2060 with Max-Q Design", 5931, 379, 3, 16, "7.5", "n", 264, 4.6),
    "2070-laptop": ("NVIDIA GeForce RTX 2070 with Max-Q Design", 7979, 379, 3, 16, "7.5", "n", 384, 5.5),
    "2080-laptop": ("NVIDIA GeForce RTX 2080 with Max-Q Design", 7979, 379, 3, 16, "7.5", "n", 384, 6.4),
    "3050-laptop": ("NVIDIA GeForce RTX 3050 Laptop GPU", 4096, 379, 4, 8, "8.6", "n", 192, 5.5),
    "3050ti-laptop": ("NVIDIA GeForce RTX 3050 Ti Laptop GPU", 4096, 379, 4, 8, "8.6", "n", 192, 7.6),
    "3060-laptop": ("NVIDIA GeForce RTX 3060 Laptop GPU", 6144, 379, 4, 16, "8.6", "n", 336, 10.9),
    "3070-laptop": ("NVIDIA GeForce RTX 3070 Laptop GPU", 8192, 379, 4, 16, "8.6", "n", 448, 15.9),
    "3070ti-laptop": ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", 8192, 379, 4, 16, "8.6", "n", 448, 16.6),
    "3080-laptop": ("NVIDIA GeForce RTX 3080 Laptop GPU", 16384, 379, 4, 16, "8.6", "n", 448, 19.0),
    "3080ti-laptop": ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", 16384, 379, 4, 16, "8.6", "n", 512, 23.6),
    "4050-laptop": ("NVIDIA GeForce RTX 4050 Laptop GPU", 6141, 436, 4, 8, "8.9", "n", 192, 9.0),
    "4060-laptop": ("NVIDIA GeForce RTX 4060 Laptop GPU", 8188, 436, 4, 8, "8.9", "n", 256, 11.6),
    "4070-laptop": ("NVIDIA GeForce RTX 4070 Laptop GPU", 8188, 436, 4, 8, "8.9", "n", 256, 15.6),
    "4080-laptop": ("NVIDIA GeForce RTX 4080 Laptop GPU", 12282, 409, 4, 16, "8.9", "n", 432, 24.7),
    "4090-laptop": ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, 436, 4, 16, "8.9", "n", 576, 33.0),
    "5050-laptop": ("NVIDIA GeForce RTX 5050 Laptop GPU", 8151, 486, 5, 8, "12.0", "n", 384, 11.0),
    "5060-laptop": ("NVIDIA GeForce RTX 5060 Laptop GPU", 8151, 486, 5, 8, "12.0", "n", 384, 13.0),
    "5070-laptop": ("NVIDIA GeForce RTX 5070 Laptop GPU", 8151, 486, 5, 8, "12.0", "n", 384, 15.0),
    "5070ti-laptop": ("NVIDIA GeForce RTX 5070 Ti Laptop GPU", 12227, 461, 5, 16, "12.0", "n", 672, 20.0),
    "5080-laptop": ("NVIDIA GeForce RTX 5080 Laptop GPU", 16303, 461, 5, 16, "12.0", "n", 896, 25.0),
    "5090-laptop": ("NVIDIA GeForce RTX 5090 Laptop GPU", 24463, 458, 5, 16, "12.0", "n", 896, 31.8),
}
_WORKSTATION: dict[str, tuple[str, int, int, int, int, str, str, float, float]] = {
    "m6000": ("Quadro M6000 24GB", 24477, 455, 3, 16, "5.2", "n", 317, 6.1),
    "p2000": ("Quadro P2000", 5056, 379, 3, 16, "6.1", "n", 140, 3.0),
    "p4000": ("Quadro P4000", 8105, 379, 3, 16, "6.1", "n", 243, 5.3),
    "p5000": ("Quadro P5000", 16272, 379, 3, 16, "6.1", "n", 288, 8.9),
    "p6000": ("Quadro P6000", 24446, 455, 3, 16, "6.1", "n", 432, 12.6),
    "gv100": ("Quadro GV100", 32478, 455, 3, 16, "7.0", "n", 870, 14.8),
    "rtx4000": ("Quadro RTX 4000", 7979, 379, 3, 16, "7.5", "n", 416, 7.1),
    "rtx5000": ("Quadro RTX 5000", 16122, 379, 3, 16, "7.5", "n", 448, 11.2),
    "rtx6000": ("Quadro RTX 6000", 22698, 455, 3, 16, "7.5", "n", 672, 16.3),
    "rtx8000": ("Quadro RTX 8000", 45556, 569, 3, 16, "7.5", "n", 672, 16.3),
    "a2000": ("NVIDIA RTX A2000 12GB", 12282, 379, 4, 16, "8.6", "n", 288, 8.0),
    "a2000-6g": ("NVIDIA RTX A2000", 6138, 379, 4, 16, "8.6", "n", 288, 8.0),
    "a4000": ("NVIDIA RTX A4000", 16376, 379, 4, 16, "8.6", "n", 448, 19.2),
    "a4500": ("NVIDIA RTX A4500", 20470, 455, 4, 16, "8.6", "n", 640, 23.7),
    "a5000": ("NVIDIA RTX A5000", 24564, 455, 4, 16, "8.6", "n", 768, 27.8),
    "a5500": ("NVIDIA RTX A5500", 24564, 455, 4, 16, "8.6", "n", 768, 34.1),
    "a6000": ("NVIDIA RTX A6000", 49140, 569, 4, 16, "8.6", "n", 768, 38.7),
    "2000ada": ("NVIDIA RTX 2000 Ada Generation", 16380, 436, 4, 8, "8.9", "n", 224, 12.0),
    "4000ada": ("NVIDIA RTX 4000 Ada Generation", 20475, 436, 4, 16, "8.9", "n", 360, 26.7),
    "4500ada": ("NVIDIA RTX 4500 Ada Generation", 24570, 484, 4, 16, "8.9", "n", 432, 39.6),
    "5000ada": ("NVIDIA RTX 5000 Ada Generation", 32760, 569, 4, 16, "8.9", "n", 576, 65.3),
    "5880ada": ("NVIDIA RTX 5880 Ada Generation", 49140, 569, 4, 16, "8.9", "n", 960, 69.3),
    "6000ada": ("NVIDIA RTX 6000 Ada Generation", 49140, 569, 4, 16, "8.9", "s", 960, 91.1),
    "pro2000": ("NVIDIA RTX PRO 2000 Blackwell", 16311, 486, 5, 8, "12.0", "n", 288, 17.0),
    "pro4000": ("NVIDIA RTX PRO 4000 Blackwell", 24467, 461, 5, 16, "12.0", "n", 672, 46.9),
    "pro4000-sff": (
        "NVIDIA RTX PRO 4000 Blackwell SFF Edition", 24467, 461, 5, 8, "12.0", "n", 432, 29.0,
    ),
    "pro4500": ("NVIDIA RTX PRO 4500 Blackwell", 32623, 461, 5, 16, "12.0", "n", 896, 54.9),
    "pro5000": ("NVIDIA RTX PRO 5000 Blackwell", 48935, 569, 5, 16, "12.0", "n", 1344, 73.7),
    "pro5000-72g": (
        "NVIDIA RTX PRO 5000 72GB Blackwell", 73415, 569, 5, 16, "12.0", "n", 1344, 73.7,
    ),
    "pro6000": (
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, 569, 5, 16, "12.0", "n", 1792, 125.0,
    ),
    "pro6000-max-q": (
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        97887, 569, 5, 16, "12.0", "n", 1792, 110.0,
    ),
    "pro6000-server": (
        "NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, 569, 5, 16, "12.0", "n", 1597, 120.0,
    ),
}  # fmt: skip
_DATA_CENTRE: dict[str, tuple[str, int, int, int, int, str, str, float, float]] = {
    "m40": ("Tesla M40 24GB", 22942, 455, 3, 16, "5.2", "n", 288, 7.0),
    "m60": ("Tesla M60", 7612, 379, 3, 16, "5.2", "n", 160, 4.8),
    "p4": ("Tesla P4", 7606, 379, 3, 16, "6.1", "n", 192, 5.5),
    "p40": ("Tesla P40", 22912, 455, 3, 16, "6.1", "n", 347, 11.8),
    "p100": ("Tesla P100-PCIE-16GB", 16276, 455, 3, 16, "6.0", "n", 732, 9.3),
    "p100-sxm": ("Tesla P100-SXM2-16GB", 16276, 455, 3, 16, "6.0", "n", 732, 10.6),
    "p100-12g": ("Tesla P100-PCIE-12GB", 12193, 455, 3, 16, "6.0", "n", 549, 9.3),
    "v100": ("Tesla V100-PCIE-16GB", 16144, 455, 3, 16, "7.0", "n", 897, 14.0),
    "v100-sxm": ("Tesla V100-SXM2-16GB", 16144, 455, 3, 16, "7.0", "n", 897, 15.7),
    "v100-32g": ("Tesla V100-PCIE-32GB", 32478, 455, 3, 16, "7.0", "n", 897, 14.0),
    "v100-sxm-32g": ("Tesla V100-SXM2-32GB", 32478, 455, 3, 16, "7.0", "n", 897, 15.7),
    "t4": ("Tesla T4", 15360, 455, 3, 16, "7.5", "n", 320, 8.1),
    "a2": ("NVIDIA A2", 15356, 379, 4, 8, "8.6", "n", 200, 4.5),
    "a10": ("NVIDIA A10", 23028, 455, 4, 16, "8.6", "n", 600, 31.2),
    "a10g": ("NVIDIA A10G", 23028, 455, 4, 16, "8.6", "n", 600, 31.5),
    "a16": ("NVIDIA A16", 15356, 455, 4, 16, "8.6", "n", 200, 4.5),
    "a30": ("NVIDIA A30", 24258, 769, 4, 16, "8.0", "n", 933, 10.3),
    "a40": ("NVIDIA A40", 46068, 601, 4, 16, "8.6", "n", 696, 37.4),
    "a100-40g": ("NVIDIA A100-SXM4-40GB", 40960, 769, 4, 16, "8.0", "n", 1555, 19.5),
    "a100-pcie-40g": ("NVIDIA A100-PCIE-40GB", 40960, 769, 4, 16, "8.0", "n", 1555, 19.5),
    "a100-80g": ("NVIDIA A100-SXM4-80GB", 81920, 769, 4, 16, "8.0", "s", 2039, 19.5),
    "a100-pcie-80g": ("NVIDIA A100 80GB PCIe", 81920, 769, 4, 16, "8.0", "n", 1935, 19.5),
    "a800": ("NVIDIA A800-SXM4-80GB", 81920, 769, 4, 16, "8.0", "n", 2039, 19.5),
    "l4": ("NVIDIA L4", 23034, 601, 4, 16, "8.9", "n", 300, 30.3),
    "l20": ("NVIDIA L20", 46068, 601, 4, 16, "8.9", "n", 864, 59.8),
    "l40": ("NVIDIA L40", 46068, 601, 4, 16, "8.9", "n", 864, 90.5),
    "l40s": ("NVIDIA L40S", 46068, 601, 4, 16, "8.9", "s", 864, 91.6),
    "h20": ("NVIDIA H20", 97871, 478, 5, 16, "9.0", "n", 4000, 44.0),
    "h100": ("NVIDIA H100 80GB HBM3", 81559, 478, 5, 16, "9.0", "s", 3352, 66.9),
    "h100-pcie": ("NVIDIA H100 PCIe", 81559, 478, 5, 16, "9.0", "n", 2039, 51.2),
    "h100-nvl": ("NVIDIA H100 NVL", 95830, 478, 5, 16, "9.0", "n", 3938, 60.3),
    "h800": ("NVIDIA H800", 81559, 478, 5, 16, "9.0", "n", 3352, 66.9),
    "h200": ("NVIDIA H200", 143771, 616, 5, 16, "9.0", "s", 4800, 66.9),
    "h200-nvl": ("NVIDIA H200 NVL", 143771, 478, 5, 16, "9.0", "n", 4800, 60.3),
    "gh200": ("NVIDIA GH200 480GB", 97871, 478, 5, 16, "9.0", "n", 4000, 66.9),
    "gh200-144g": ("NVIDIA GH200 144G HBM3e", 146831, 478, 5, 16, "9.0", "n", 4900, 66.9),
    "b200": ("NVIDIA B200", 183359, 769, 5, 16, "10.0", "n", 8000, 75.0),
    "gb200": ("NVIDIA GB200", 189471, 769, 6, 16, "10.0", "n", 8000, 80.0),
    "b300": ("NVIDIA B300 SXM6 AC", 275040, 769, 6, 16, "10.3", "n", 8000, 75.0),
}
# GPUs with the machine's memory (LPDDR5 of the board): driver's name, compute capability, GB/s, FP32 TFLOPS
_SHARED: dict[str, tuple[str, str, float, float]] = {
    "gb10": ("NVIDIA GB10", "12.1", 273, 31.0),
    "thor": ("NVIDIA Thor", "11.0", 273, 8.1),
    "orin": ("Orin", "8.7", 204.8, 5.3),
}


def nvidia_gpus() -> tuple[Gpu, ...]:
    """Return the cards, then the GPUs that share the machine's memory."""
    return (
        *(
            Gpu(
                key=key,
                name=name,
                backend=Backend.CUDA,
                total_mib=total,
                reserved_mib=reserved,
                pcie_generation=generation,
                pcie_width=width,
                compute_capability=capability,
                source=source,
                gb_s=gb_s,
                tera_ops=_tera_ops(key, capability, tflops),
            )
            for table in (_GEFORCE, _LAPTOP, _WORKSTATION, _DATA_CENTRE)
            for key, (
                name, total, reserved, generation, width, capability, source, gb_s, tflops,
            ) in table.items()
        ),
        *(
            Gpu(
                key=key,
                name=name,
                backend=Backend.CUDA,
                compute_capability=capability,
                source="n",
                gb_s=gb_s,
                tera_ops=_tera_ops(key, capability, tflops),
            )
            for key, (name, capability, gb_s, tflops) in _SHARED.items()
        ),
    )  # fmt: skip


def _tera_ops(key: str, capability: str, tflops: float) -> float:
    if key == "h20":
        return _H20_TERA_OPS
    return tflops * (4.0 if key in _TURING_WITHOUT_TENSOR_CORES else _OPS_PER_FLOP[capability])
