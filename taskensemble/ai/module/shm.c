/* Shared memory.
 *
 * Each worker has at most one segment: a memfd of the server, mapped here and there, which carries the large tensors of one unit
 * (a worker has one unit at a time): inputs from the front, and behind them room for outputs. It grows when a unit needs more,
 * and its pages are given back after half a minute without use. Nothing has a name in any file system, so nothing can be left
 * behind: with the server's process, or when the worker goes, a segment is gone.
 *
 * Memory that another process can shrink is a trap (reading it ends the reader with SIGBUS), so segments are sealed against
 * shrinking and growing, and their pages are allocated before anyone touches them. */
#define _GNU_SOURCE
#include "shm.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "api.h"
#include "limits.h"
#include "queue.h"
#include "sealed.h"

enum { SMALLEST = 256 * 1024 };

static size_t total_size;
static uint64_t last_id;

void segment_init(Segment *segment) {
    *segment = (Segment){.fd = -1};
}

size_t segments_total(void) {
    return total_size;
}

/* To eighths of the power of two above, so that a little growth does not make a new segment and not much is wasted. */
static size_t round_up(size_t size) {
    size_t power = SMALLEST;
    while (power < size) power *= 2;
    size_t step = power > 8 * SMALLEST ? power / 8 : SMALLEST;
    return (size + step - 1) / step * step;
}

int sealed_memory(size_t size) {
    int fd = memfd_create("taskensemble", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    int made = ftruncate(fd, (off_t)size) == 0 && fallocate(fd, 0, 0, (off_t)size) == 0 &&
               fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
    if (made) return fd;
    close(fd);
    return -1;
}

void segment_release(Segment *segment) {
    if (segment->base) {
        munmap(segment->base, segment->size);
        total_size -= segment->size;
    }
    if (segment->fd >= 0) close(segment->fd);
    segment_init(segment);
}

static int segment_fill(Segment *segment) {
    if (!segment->hollow) return 1;
    if (fallocate(segment->fd, 0, 0, (off_t)segment->size) != 0) return 0;
    segment->hollow = 0;
    return 1;
}

int segment_reserve(Segment *segment, size_t size) {
    segment->used_ms = now_ms();
    if (segment->base && size <= segment->size) return segment_fill(segment);
    size_t rounded = round_up(size);
    size_t others = total_size - segment->size;
    if (others + sealed_total() + rounded > (size_t)limits.shared_memory) return 0;
    segment_release(segment);
    int fd = sealed_memory(rounded);
    if (fd < 0) return 0;
    void *base = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        close(fd);
        return 0;
    }
    madvise(base, rounded, MADV_DONTFORK);
    *segment = (Segment){.id = ++last_id, .fd = fd, .base = base, .size = rounded, .used_ms = now_ms()};
    total_size += rounded;
    return 1;
}

void segment_hollow(Segment *segment) {
    if (!segment->base || segment->hollow) return;
    if (fallocate(segment->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)segment->size) == 0) segment->hollow = 1;
}

int probe_open(char token[TOKEN_SIZE]) {
    static int probe = -1;
    static char secret[TOKEN_SIZE];
    if (probe < 0) {
        probe = sealed_memory(PROBE_SIZE);
        if (probe < 0) return -1;
        if (getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret) ||
            pwrite(probe, secret, sizeof(secret), 0) != (ssize_t)sizeof(secret)) {
            close(probe);
            probe = -1;
            return -1;
        }
    }
    memcpy(token, secret, TOKEN_SIZE);
    return probe;
}
