// Preloaded into llama-server: has every allocation written to its log, `allocated BUFFER_TYPE BYTES`, in the order of
// the log's own lines. Under --split-mode tensor those lines state one number for all devices.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

#define LOG_LEVEL_INFO 2

void ggml_log_internal(int level, const char *format, ...);
const char *ggml_backend_buft_name(void *buft);

void *ggml_backend_buft_alloc_buffer(void *buft, size_t size) {
    void *(*next)(void *, size_t) = (void *(*)(void *, size_t)) dlsym(RTLD_NEXT, "ggml_backend_buft_alloc_buffer");
    if (size) {
        ggml_log_internal(LOG_LEVEL_INFO, "allocated %s %zu\n", ggml_backend_buft_name(buft), size);
    }
    return next(buft, size);
}
