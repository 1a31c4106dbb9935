/* Inference workers: who does the arithmetic. Their side of the talk is docs/inference-protocol.md. */
#ifndef TASKENSEMBLE_AI_WORKER_H
#define TASKENSEMBLE_AI_WORKER_H

#include <stdint.h>

#include "queue.h"
#include "shm.h"
#include "unit.h"

typedef struct Worker {
    uint64_t id;
    int slot; /* bit in Asset.loaded */
    Lane *lane;
    uint64_t client;
    int64_t pid;
    char *version;
    char *supervisor;              /* name, or NULL */
    RedisModuleBlockedClient *bc;  /* its NEXT that waits; NULL while it works */
    int idle;                      /* in the lane's list of idle workers */
    int waking;                    /* its NEXT is about to return */
    int shared_memory;
    Segment segment;
    struct Mailbox *mailbox; /* NULL: it has none */
    int mailbox_fd;
    int64_t mailbox_runs; /* answered there */
    int mailbox_pause;    /* so many runs go the usual way */
    int mailbox_patience; /* and so many the next time that it does not answer */
    Unit unit;
    uint64_t *forget; /* versions to unload, told with the next unit */
    int forget_count;
    int forget_capacity;
    int64_t units;
    struct Worker *idle_next;
    struct Worker *next;
} Worker;

/* AI._WORKER verb ... */
int worker_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

Worker *worker_first(void);
/* Lets an idle worker take a unit, before the server sleeps again. */
void worker_wake(Worker *worker);
/* Workers that hold this asset are told to forget it. */
void workers_forget(const Asset *asset);
/* The version text of the last worker of this backend, or NULL if there never was one. */
const char *backend_version(Backend backend);
/* A client of the server has gone. */
void workers_client_gone(uint64_t client);
/* Ten times a second: overdue units, lanes, idle memory. */
void workers_tick(void);
int64_t module_started_ms(void);

#endif
