/* A stand-in for libnvidia-ml.so.1: just enough of NVML's ABI for pynvml. FAKE_NVML chooses the machine:
   two (a 3090 and a GPU that shares the host's memory), mig, old (no reserve known), mismatch, denied, unloaded.
   FAKE_NVML_USED names a file with the MiB in use beside 21. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, VERSION_MISMATCH = 18 };

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} pci_info;

static const unsigned long long MIB = 1ULL << 20;

static int is(const char *name) {
    const char *value = getenv("FAKE_NVML");
    return value != NULL && strcmp(value, name) == 0;
}

static unsigned long long used(void) {
    const char *name = getenv("FAKE_NVML_USED");
    FILE *file = name == NULL ? NULL : fopen(name, "r");
    unsigned long long more = 0;
    if (file != NULL && fscanf(file, "%llu", &more) != 1) more = 0;
    if (file != NULL) fclose(file);
    return (21 + more) * MIB;
}

/* handles are numbers: 1 and 2 are GPUs, 11 and 13 MIG instances of the first */
static long number(void *handle) { return (long)handle; }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (is("mismatch")) return VERSION_MISMATCH;
    if (is("denied")) return NO_PERMISSION;
    if (is("unloaded")) return DRIVER_NOT_LOADED;
    if (is("odd")) return 999;
    return OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int error) { (void)error; return "an error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.95.05"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = is("two") ? 3 : 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index > 1) return 15; /* GPU_IS_LOST */
    *handle = (void *)(long)(index + 1);
    return OK;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    const char *dash = strchr(uuid, '-');
    *handle = (void *)(dash == NULL ? 0 : atol(dash + 1));
    return *handle == NULL ? NOT_FOUND : OK;
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    snprintf(text, size, number(handle) > 10 ? "MIG-%ld" : "GPU-%ld", number(handle));
    return OK;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    snprintf(text, size, "%s", number(handle) == 2 ? "NVIDIA GB10" : number(handle) > 10 ? "A100 MIG 3g.40gb" : "NVIDIA GeForce RTX 3090");
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *memory) {
    if (number(handle) == 2) return NOT_SUPPORTED;
    memory->total = 24576 * MIB, memory->free = 24000 * MIB, memory->used = 576 * MIB;
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *memory) {
    if (number(handle) == 2 || is("old") || memory->version != 0x02000028) return NOT_SUPPORTED;
    memory->total = number(handle) > 10 ? 40192 * MIB : 24576 * MIB;
    memory->reserved = 455 * MIB, memory->used = used();
    memory->free = memory->total - memory->reserved - memory->used;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = number(handle) == 2 ? 12 : 8, *minor = number(handle) == 2 ? 1 : 6;
    return OK;
}
int nvmlDeviceGetPciInfo_v3(void *handle, pci_info *info) {
    snprintf(info->bus_id, sizeof info->bus_id, "00000000:%02lX:00.0", number(handle));
    return number(handle) == 2 ? NOT_SUPPORTED : OK;
}
int nvmlDeviceGetMaxPcieLinkGeneration(void *handle, unsigned *value) { *value = 4; return number(handle) == 2 ? NOT_SUPPORTED : OK; }
int nvmlDeviceGetCurrPcieLinkWidth(void *handle, unsigned *value) { *value = 8; return number(handle) == 2 ? NOT_SUPPORTED : OK; }
int nvmlDeviceGetDisplayActive(void *handle, unsigned *value) { *value = 1; return number(handle) == 2 ? NOT_SUPPORTED : OK; }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) {
    (void)handle;
    *now = *pending = 1;
    return is("mig") ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { (void)handle; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **instance) {
    (void)handle;
    if (index != 0 && index != 2) return NOT_FOUND;
    *instance = (void *)(long)(11 + index);
    return OK;
}
