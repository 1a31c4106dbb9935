/* Shared memory between the server and one inference worker. */
#ifndef TASKENSEMBLE_AI_SHM_H
#define TASKENSEMBLE_AI_SHM_H

#include <stddef.h>
#include <stdint.h>

/* All zero (with fd -1) is no segment. */
typedef struct Segment {
    uint64_t id;
    int fd;
    char *base;
    size_t size;
    int64_t used_ms;
    int hollow; /* its pages were given back while it was idle */
} Segment;

enum { SEGMENT_ALIGNMENT = 64, PROBE_SIZE = 4096, TOKEN_SIZE = 16 };

void segment_init(Segment *segment);
/* Makes the segment at least `size` bytes, with a new id if it had to be made anew. Returns 0 if memory or the limit forbid it; the old
 * content is lost either way. */
int segment_reserve(Segment *segment, size_t size);
/* Gives the pages back but keeps the segment: the worker's mapping stays right. */
void segment_hollow(Segment *segment);
void segment_release(Segment *segment);
/* Bytes of all segments together. */
size_t segments_total(void);

/* A sealed memfd of so many bytes, all zero, with all its pages; -1 if the system refuses. */
int sealed_memory(size_t size);
/* A small memfd with a random token in it, by which a worker finds out whether it can open the server's memory. Returns its
 * descriptor, the same each time, or -1. */
int probe_open(char token[TOKEN_SIZE]);

#endif
