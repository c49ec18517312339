"""Look at the machine we run on.

probe.py        ask every probe and put the machine together
host.py         memory, limits, NUMA nodes, the store's file system
cpu.py          cores, threads and instruction sets
cgroup.py       memory and CPU limits of our cgroup
proc_files.py   read /proc and /sys
nvidia.py       which NVIDIA GPUs CUDA will show, in which order
nvml.py         read NVML, the NVIDIA driver's library
amd.py          AMD GPUs, from sysfs
apple.py        Apple silicon, from sysctl
device_list.py  the devices that llama-server lists
vram_in_use.py  memory in use on GPUs while a model loads
"""
