/* Units: what goes to a worker in one piece, as frames, and the results that come back. */
#ifndef TASKENSEMBLE_AI_UNIT_H
#define TASKENSEMBLE_AI_UNIT_H

#include <stdint.h>

#include "bytes.h"
#include "queue.h"
#include "request.h"

struct Worker;

typedef enum ItemKind { ITEM_LOAD_MODEL = 1, ITEM_LOAD_SCRIPT = 2, ITEM_UNLOAD = 3, ITEM_RUN = 4, ITEM_QUIT = 5 } ItemKind;

typedef struct Item {
    ItemKind kind;
    uint64_t version;
    Asset *asset; /* owned; NULL for UNLOAD */
    int first_job; /* RUN: its jobs in the unit; LOAD for a store: the job that waits for it */
    int job_count;
    int step; /* RUN: index of the step in the job's request */
} Item;

/* Bytes that travel beside the frame: a tensor's or a blob's, kept alive by the unit's jobs and items. */
typedef struct Element {
    const Tensor *tensor;
    const Blob *blob;
} Element;

/* One at a time for each worker; the arrays are kept from unit to unit. */
typedef struct Unit {
    uint64_t id;
    int active;
    int64_t started_us;
    Job **jobs;
    int job_count;
    int job_capacity;
    Item *items;
    int item_count;
    int item_capacity;
    Element *elements;
    int element_count;
    int element_capacity;
    Bytes frame;
} Unit;

/* Fills the worker's unit from its lane's queues. It may turn out empty, when another worker was quicker. */
void unit_compose(struct Worker *worker);
/* The same with this one job; for the mailbox. */
void unit_compose_job(struct Worker *worker, Job *job);
int unit_reply(RedisModuleCtx *ctx, const Unit *unit);
/* Reads a result frame (arguments[0]; more arguments are its elements) and finishes the unit's jobs. Returns 0, with
 * nothing changed, if it is malformed or not of this unit. */
int unit_accept(struct Worker *worker, RedisModuleString **arguments, int count);
/* The same with a frame that has no elements. */
int unit_accept_frame(struct Worker *worker, const char *frame, size_t length);
/* The worker is gone: `hung` or dead. Jobs are put back to be tried alone, or fail. */
void unit_lost(struct Worker *worker, int hung);
void unit_free(Unit *unit);
void unit_clear(Unit *unit);

/* The step that a RUN item means for the item's n-th job. */
Step *item_step(const Unit *unit, const Item *item, int job);
/* Rows along dimension 0 of all its jobs. */
int64_t item_samples(const Unit *unit, const Item *item);
/* Adds bytes that travel beside the frame; returns their index in the reply. */
uint32_t unit_add_element(Unit *unit, const Tensor *tensor, const Blob *blob);
/* Whether the worker in a slot holds an asset. */
int asset_is_loaded(const Asset *asset, int slot);
void asset_set_loaded(Asset *asset, int slot, int loaded);
/* An array with room for one element more than `count`. */
void *grow(void *array, int count, int *capacity, size_t size);

#endif
