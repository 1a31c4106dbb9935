/* For servers that open modules with RTLD_DEEPBIND, which AddressSanitizer refuses: preloaded before its library, this takes the
 * flag away. */
#define _GNU_SOURCE
#include <dlfcn.h>

void *dlopen(const char *path, int flags) {
    void *(*next)(const char *, int);
    *(void **)&next = dlsym(RTLD_NEXT, "dlopen");
    return next(path, flags & ~RTLD_DEEPBIND);
}
