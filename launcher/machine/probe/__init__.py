"""Look at the machine we run on.

probe.py        ask every probe
devices.py      choose the devices to plan on
host.py         memory, limits, NUMA nodes, file system
cpu.py          cores, threads and instruction sets
cgroup.py       limits of our cgroup
proc_files.py   read /proc and /sys
nvidia.py       which NVIDIA GPUs CUDA will show
nvml.py         read the NVIDIA driver's library
amd.py          AMD GPUs, from sysfs
intel.py        the driver of Intel's integrated GPU, from sysfs
apple.py        Apple silicon, from sysctl
device_list.py  the devices that llama-server lists
vram_in_use.py  GPU memory in use
measure.py      how fast memory, cores and disk are
kernels.py      a program: how fast a core multiplies weights
attention.py    a program: how fast a core attends to cached tokens
links.py        a program: how fast GPUs are copied to
"""
