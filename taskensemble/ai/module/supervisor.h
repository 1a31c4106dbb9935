/* Supervisors: processes that start inference workers when the module asks for one. */
#ifndef TASKENSEMBLE_AI_SUPERVISOR_H
#define TASKENSEMBLE_AI_SUPERVISOR_H

#include <stdint.h>

#include "queue.h"

/* AI._WORKER SUPERVISE ... and FAILED ... */
int supervise_verb(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int failed_verb(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* Orders another worker in place of one that hangs. Returns 0 if the supervisor that started it is not there. */
int supervisor_replace(const char *name, Lane *lane, uint64_t worker, int64_t pid);
/* A client of the server has gone. */
void supervisor_client_gone(uint64_t client);

/* Sees to it that a worker for this lane comes, or fails what waits where none can come. */
void lane_want_worker(Lane *lane);
/* Whether a worker is there or could be started. */
int lane_can_serve(const Lane *lane);
/* What a store is answered when it is not: the original's text. */
const char *lane_refusal(const Lane *lane);
/* Ten times a second: overdue starts, lanes nobody serves, lanes that need one worker more. */
void lane_tend(Lane *lane, int64_t now);

/* Reading arguments of the worker protocol: its version, a backend and a device. Return 0 if they are not that. */
int speaks_protocol(RedisModuleString *argument);
int read_lane(RedisModuleString **argv, Lane **lane);

#endif
