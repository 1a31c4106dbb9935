/* Figures of one model or script: how its runs were batched, and how long its callers waited. */
#ifndef TASKENSEMBLE_AI_FIGURES_H
#define TASKENSEMBLE_AI_FIGURES_H

#include <stdint.h>

#include "api.h"

/* Latencies are counted in classes of equal relative width, eight to a power of two: from 1 us to 2^36 us (19 hours), each
 * class at most 12.5 % wide. Batches are counted by the requests in them: 1, 2, up to 4, up to 8, … up to 256. */
enum { LATENCY_EXACT = 8, LATENCY_CLASSES = 8 * 34 + LATENCY_EXACT, BATCH_CLASSES = 9 };

typedef struct Figures {
    int64_t batches;
    int64_t largest_batch; /* in samples */
    uint32_t batch_sizes[BATCH_CLASSES];
    uint32_t latencies[LATENCY_CLASSES];
} Figures;

/* One run of the backend for so many requests with so many samples together. */
void figures_batch(Figures *figures, int requests, int64_t samples);
/* One request, from the moment it was queued until its outputs were back. */
void figures_latency(Figures *figures, int64_t us);

/* AI._WORKER FIGURES key [key ...] */
int figures_verb(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

#endif
