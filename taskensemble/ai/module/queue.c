/* The queue.
 *
 * A lane is a pair of backend and device. Jobs wait in the queue of their asset (first come, first served); assets with
 * waiting jobs stand in their lane's ring, and a free worker is given the next batch of the next asset in the ring, so that
 * a model with a thousand callers does not starve one with a single caller.
 *
 * A batch (lane_peek): with BATCHSIZE n, jobs of the model whose inputs agree with the first in type and in every
 * dimension but the 0th are joined until n samples would be exceeded. With MINBATCHSIZE m the model is passed over until a
 * batch of m samples can be made, or until the first of its jobs has waited MINBATCHTIMEOUT; a timer comes back for that.
 * Jobs whose worker died go alone.
 *
 * Choosing happens late: lane_serve only wakes a worker, and its unit is put together when the server has read every command that
 * had arrived (worker.c), so that commands that arrive together travel together.
 *
 * Queues are doubly linked through the jobs; the memory is the jobs' own. */
#define _POSIX_C_SOURCE 200809L
#include "queue.h"

#include <time.h>

#include "limits.h"
#include "supervisor.h"
#include "worker.h"

static Lane *all_lanes;

int64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

int64_t now_ms(void) {
    return now_us() / 1000;
}

Lane *lane_first(void) {
    return all_lanes;
}

Lane *lane_of(Backend backend, Device device) {
    for (Lane *lane = all_lanes; lane; lane = lane->next) {
        if (lane->backend == backend && device_equal(lane->device, device)) return lane;
    }
    Lane *lane = server.Calloc(1, sizeof(*lane));
    lane->backend = backend;
    lane->device = device;
    device_name(device, lane->name);
    lane->served_ms = module_started_ms();
    lane->next = all_lanes;
    all_lanes = lane;
    return lane;
}

Lane *lane_of_asset(Asset *asset) {
    if (!asset->lane) {
        Device device = {0};
        device_parse(asset->device, &device);
        asset->lane = lane_of(asset->backend, device);
    }
    return asset->lane;
}

/* ---- The ring of a lane ---- */

static void ring_insert(Lane *lane, Asset *asset) {
    if (!lane->ring) {
        lane->ring = asset->ring_next = asset->ring_previous = asset;
        return;
    }
    asset->ring_next = lane->ring;
    asset->ring_previous = lane->ring->ring_previous;
    asset->ring_previous->ring_next = asset;
    lane->ring->ring_previous = asset;
}

static void ring_remove(Lane *lane, Asset *asset) {
    if (asset->ring_next == asset) {
        lane->ring = NULL;
    } else {
        asset->ring_previous->ring_next = asset->ring_next;
        asset->ring_next->ring_previous = asset->ring_previous;
        if (lane->ring == asset) lane->ring = asset->ring_next;
    }
    asset->ring_next = asset->ring_previous = NULL;
}

static void link_job(Job *job, int at_head) {
    Asset *asset = job->asset;
    Lane *lane = lane_of_asset(asset);
    if (!asset->first) {
        ring_insert(lane, asset);
        asset->first = asset->last = job;
        job->next = job->previous = NULL;
    } else if (at_head) {
        job->previous = NULL;
        job->next = asset->first;
        asset->first->previous = job;
        asset->first = job;
    } else {
        job->next = NULL;
        job->previous = asset->last;
        asset->last->next = job;
        asset->last = job;
    }
    job->queued = 1;
    asset->waiting++;
    lane->waiting++;
}

void queue_remove(Job *job) {
    Asset *asset = job->asset;
    Lane *lane = lane_of_asset(asset);
    if (job->previous) job->previous->next = job->next;
    if (job->next) job->next->previous = job->previous;
    if (asset->first == job) asset->first = job->next;
    if (asset->last == job) asset->last = job->previous;
    job->next = job->previous = NULL;
    job->queued = 0;
    asset->waiting--;
    lane->waiting--;
    if (!asset->first) ring_remove(lane, asset);
    if (!lane->waiting) lane->backlog_ms = 0;
}

Job *queue_find(const Request *request) {
    if (request->jobs == 0) return NULL;
    Asset *last = NULL;
    for (int s = -1; s < request->step_count; s++) {
        Asset *asset = s < 0 ? request->asset : request->steps[s].asset;
        if (!asset || asset == last) continue;
        last = asset;
        for (Job *job = asset->first; job; job = job->next) {
            if (job->request == request) return job;
        }
    }
    return NULL;
}

/* ---- Batching ---- */

static const Step *job_step(const Job *job) {
    return &job->request->steps[job->steps[0]];
}

static int jobs_batchable(const Job *a, const Job *b) {
    if (b->alone || b->step_count != 1) return 0;
    const Step *one = job_step(a);
    const Step *two = job_step(b);
    if (one->input_count != two->input_count || one->output_count != two->output_count) return 0;
    for (int i = 0; i < one->input_count; i++) {
        if (!tensor_batchable_with(one->inputs[i].tensor, two->inputs[i].tensor)) return 0;
    }
    for (int i = 0; i < one->output_count; i++) {
        if (one->wanted[i] != two->wanted[i]) return 0;
    }
    return 1;
}

/* All inputs of a job that can be batched have the same dimension 0. */
static int job_joins(const Job *job) {
    if (job->alone || job->step_count != 1 || job->asset->batch_size <= 0) return 0;
    const Step *step = job_step(job);
    for (int i = 0; i < step->input_count; i++) {
        const Tensor *tensor = step->inputs[i].tensor;
        if (tensor->ndim == 0 || tensor->dims[0] != job->samples) return 0;
    }
    return step->input_count > 0;
}

/* Collects the batch that begins with `head` without taking it out; returns its samples. */
static int64_t collect_batch(Job *head, Selection *selection) {
    selection->count = 1;
    selection->jobs[0] = head;
    int64_t samples = head->samples;
    if (!job_joins(head)) return samples;
    for (Job *job = head->next; job && selection->count < UNIT_MAX_JOBS; job = job->next) {
        if (samples >= head->asset->batch_size) break;
        if (!job_joins(job) || !jobs_batchable(head, job)) continue;
        if (samples + job->samples > head->asset->batch_size) continue;
        selection->jobs[selection->count++] = job;
        samples += job->samples;
    }
    return samples;
}

/* The first batch of this asset that may run now. */
static int asset_select(Asset *asset, Selection *selection) {
    for (Job *head = asset->first; head; head = head->next) {
        int64_t samples = collect_batch(head, selection);
        int held_back = job_joins(head) && asset->min_batch_size > samples;
        if (!held_back) return 1;
        int64_t waited_ms = (now_us() - head->queued_us) / 1000;
        if (asset->min_batch_timeout > 0 && waited_ms >= asset->min_batch_timeout) return 1;
    }
    return 0;
}

/* The next asset in the ring of which a batch may run now, and that batch. */
static Asset *lane_next(const Lane *lane, Selection *selection) {
    Asset *asset = lane->ring;
    while (asset) {
        if (asset_select(asset, selection)) return asset;
        asset = asset->ring_next;
        if (asset == lane->ring) break;
    }
    return NULL;
}

int lane_peek(const Lane *lane, Selection *selection) {
    return lane_next(lane, selection) != NULL;
}

int lane_ready(const Lane *lane) {
    Selection selection;
    return lane_peek(lane, &selection);
}

void lane_take(Lane *lane, const Selection *selection) {
    lane->ring = selection->jobs[0]->asset->ring_next;
    for (int i = 0; i < selection->count; i++) queue_remove(selection->jobs[i]);
}

static void on_batch_timer(RedisModuleCtx *ctx, void *data);

/* A model that holds back: come back when its oldest job has waited long enough. */
static void arm_batch_timer(Asset *asset) {
    if (asset->batch_timer_set || asset->min_batch_timeout <= 0 || asset->min_batch_size <= 0 || !asset->first) return;
    int64_t soonest = asset->min_batch_timeout;
    int64_t now = now_us();
    for (Job *job = asset->first; job; job = job->next) {
        int64_t left = asset->min_batch_timeout - (now - job->queued_us) / 1000;
        if (left < soonest) soonest = left;
    }
    asset->batch_timer = server.CreateTimer(module_context, soonest > 1 ? soonest : 1, on_batch_timer, asset);
    asset->batch_timer_set = 1;
}

static void on_batch_timer(RedisModuleCtx *ctx, void *data) {
    (void)ctx;
    Asset *asset = data;
    asset->batch_timer_set = 0;
    lane_serve(lane_of_asset(asset));
    arm_batch_timer(asset);
}

void queue_forget(Asset *asset) {
    if (asset->batch_timer_set) server.StopTimer(module_context, asset->batch_timer, NULL);
    asset->batch_timer_set = 0;
}

/* ---- In and out ---- */

void queue_push(Job *job) {
    job->queued_us = now_us();
    link_job(job, 0);
    Asset *asset = job->asset;
    lane_serve(lane_of_asset(asset));
}

void queue_push_back_first(Job *job) {
    job->alone = 1;
    link_job(job, 1);
}

void lane_serve(Lane *lane) {
    while (lane->idle && lane->waiting > lane->waking && lane_ready(lane)) worker_wake(lane->idle);
    if (!lane->waiting) return;
    for (Asset *asset = lane->ring; asset; asset = asset->ring_next) {
        arm_batch_timer(asset);
        if (asset->ring_next == lane->ring) break;
    }
    if (lane->worker_count == 0) lane_want_worker(lane);
    if (lane->idle) {
        lane->backlog_ms = 0;
    } else if (!lane->backlog_ms) {
        lane->backlog_ms = now_ms();
    }
}

void lane_fail(Lane *lane, const char *text) {
    while (lane->ring) {
        Job *job = lane->ring->first;
        queue_remove(job);
        job_failed(job, text);
    }
}
