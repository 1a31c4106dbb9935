/* What can be set: arguments of MODULE LOAD, and AI.CONFIG while the server runs. */
#ifndef TASKENSEMBLE_AI_LIMITS_H
#define TASKENSEMBLE_AI_LIMITS_H

#include <stdint.h>

typedef struct Limits {
    int64_t tensor_bytes;            /* MAX_TENSOR_BYTES: largest tensor */
    int64_t model_chunk_size;        /* MODEL_CHUNK_SIZE: AI.MODELGET cuts larger blobs */
    int64_t model_execution_timeout; /* MODEL_EXECUTION_TIMEOUT, ms: told to workers, for ONNX */
    int64_t worker_timeout;          /* WORKER_TIMEOUT, ms: a unit that takes longer means a hanging worker */
    int64_t worker_start_timeout;    /* WORKER_START_TIMEOUT, ms: from the order until the worker joins */
    int64_t worker_grace;            /* WORKER_GRACE, ms: a run waits so long for a first worker to appear */
    int64_t shared_memory;           /* SHARED_MEMORY, bytes: all segments together */
    int64_t threads_per_queue;       /* THREADS_PER_QUEUE, INTER_.., INTRA_OP_PARALLELISM: accepted and told, as the original */
    int64_t inter_op_parallelism;
    int64_t intra_op_parallelism;
    char *backends_path; /* BACKENDSPATH: kept and told, nothing is loaded from it; NULL if never set */
} Limits;

extern Limits limits;

#endif
