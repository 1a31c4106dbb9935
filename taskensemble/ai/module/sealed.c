/* Sealed memory.
 *
 * A model of 100 MB that goes through sockets is copied five times on its way to a worker. Where client, server and worker share a
 * host, it goes through a memfd instead: who has the bytes writes them once, seals the memfd so that nobody can change
 * them any more, and tells its process and descriptor; the others open /proc/<pid>/fd/<n>, which the kernel allows to
 * the same user only.
 *
 * A number of a process means another one in another process namespace. So a client's memfd carries the SHA-256 of its bytes in its
 * name, and only what has the name that the command tells is opened: no file, no pipe, no device, and no other model. */
#define _GNU_SOURCE
#include "sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "limits.h"
#include "shm.h"

enum { SEALS = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW, PATH_ROOM = 128 };

static size_t total_size;

size_t sealed_total(void) {
    return total_size;
}

/* Whether the descriptor is that of a memfd with this name, as the kernel shows it. */
static int has_name(int fd, const char *name) {
    char path[PATH_ROOM], target[PATH_ROOM];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, target, sizeof(target));
    return length == (ssize_t)strlen(name) && memcmp(target, name, (size_t)length) == 0;
}

/* Opens what an O_PATH descriptor refers to. Nothing but the file whose name was looked at can come of it. */
static int open_again(int handle) {
    char path[PATH_ROOM];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", handle);
    return open(path, O_RDONLY | O_CLOEXEC);
}

int sealed_open(int64_t pid, int64_t descriptor, const char *digest, size_t *length) {
    char path[PATH_ROOM], name[PATH_ROOM];
    snprintf(path, sizeof(path), "/proc/%lld/fd/%lld", (long long)pid, (long long)descriptor);
    snprintf(name, sizeof(name), "/memfd:taskensemble-%.64s (deleted)", digest);
    int handle = open(path, O_PATH | O_CLOEXEC);
    if (handle < 0) return -1;
    int fd = has_name(handle, name) ? open_again(handle) : -1;
    close(handle);
    if (fd < 0) return -1;
    struct stat facts;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &facts) != 0 || facts.st_size <= 0) {
        close(fd);
        return -1;
    }
    *length = (size_t)facts.st_size;
    total_size += *length;
    return fd;
}

static int write_all(int fd, const char *data, size_t length) {
    while (length) {
        ssize_t written = write(fd, data, length);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return 0;
        data += written;
        length -= (size_t)written;
    }
    return 1;
}

int sealed_create(const char *data, size_t length) {
    if (total_size + segments_total() + length > (size_t)limits.shared_memory) return -1;
    int fd = memfd_create("taskensemble", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (!write_all(fd, data, length) || fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) != 0) {
        close(fd);
        return -1;
    }
    total_size += length;
    return fd;
}

RedisModuleString *sealed_copy(int fd, size_t length) {
    void *bytes = mmap(NULL, length, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED) return NULL;
    RedisModuleString *copy = server.CreateString(NULL, bytes, length);
    munmap(bytes, length);
    return copy;
}

void sealed_close(int fd, size_t length) {
    close(fd);
    total_size -= length;
}
