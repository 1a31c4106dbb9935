/* Lanes and queues: which job a free worker gets next, and with which others. */
#ifndef TASKENSEMBLE_AI_QUEUE_H
#define TASKENSEMBLE_AI_QUEUE_H

#include "asset.h"
#include "device.h"
#include "request.h"

struct Worker;

enum { UNIT_MAX_JOBS = 256 };

/* Everything about one pair of backend and device. */
typedef struct Lane {
    Backend backend;
    Device device;
    char name[DEVICE_NAME_SIZE];
    Asset *ring; /* assets with waiting jobs; the next to be served */
    int waiting; /* jobs in their queues */
    struct Worker *idle; /* workers that wait for a unit, the last one first */
    int waking; /* workers that will take a unit before the server sleeps again */
    int worker_count;
    int offers;            /* workers that supervisors would run in all */
    int starting;          /* START orders without a JOIN yet */
    int64_t start_by_ms;   /* when they count as failed */
    int fruitless;         /* workers that came and went without finishing a unit, in a row */
    int64_t served_ms;     /* when the last worker or offer went away; the module's start at first */
    int64_t backlog_ms;    /* since when jobs wait although every worker is busy; 0: they do not */
    struct Lane *next;
} Lane;

/* Jobs for one RUN: a batch of several requests, or one job with all its steps. */
typedef struct Selection {
    int count;
    Job *jobs[UNIT_MAX_JOBS];
} Selection;

Lane *lane_of(Backend backend, Device device);
Lane *lane_of_asset(Asset *asset);
Lane *lane_first(void);

/* Queues a job (which the queue then owns) and serves idle workers. */
void queue_push(Job *job);
/* Puts a job back at the head, to be tried alone. Serves nobody. */
void queue_push_back_first(Job *job);
void queue_remove(Job *job);
/* Any queued job of this request, or NULL. */
Job *queue_find(const Request *request);
/* The asset goes away: no timer may find it. */
void queue_forget(Asset *asset);
/* Whether a batch could be taken now. */
int lane_ready(const Lane *lane);
/* Finds the next batch in the lane's queues, assets in turn, and leaves it there. Returns 0 if nothing can run now. */
int lane_peek(const Lane *lane, Selection *selection);
/* Takes out what lane_peek has just found. */
void lane_take(Lane *lane, const Selection *selection);
/* Wakes idle workers as long as there is work for them, or sees to it that a worker comes. */
void lane_serve(Lane *lane);
/* Every waiting job of the lane fails with this text. */
void lane_fail(Lane *lane, const char *text);

int64_t now_us(void);
int64_t now_ms(void);

#endif
