/* Units: what a worker gets to do in one go.
 *
 * A unit begins with batches from the lane's queues. One batch is the rule. More go along while they are known to be quick, taken
 * together shorter than HOP_BUDGET_US, and no other worker is free for them: then one hop serves many callers. Before the
 * first run of an asset on a worker the unit carries its bytes. At the end stand the versions to forget.
 *
 * How a unit is written: frame.c. How its results are read: results.c. A unit whose worker is lost is taken apart here: its jobs go
 * back to their queues, to be tried alone, once. */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "frame.h"
#include "limits.h"
#include "worker.h"

enum { HOP_BUDGET_US = 250, HOP_BYTES = 64 * 1024, HOP_MAX_JOBS = 1024, FRAME_KEPT = 256 * 1024 };

static uint64_t last_unit;

void *grow(void *array, int count, int *capacity, size_t size) {
    if (count < *capacity) return array;
    *capacity = *capacity ? *capacity * 2 : 8;
    return server.Realloc(array, (size_t)*capacity * size);
}

static int unit_add_job(Unit *unit, Job *job) {
    unit->jobs = grow(unit->jobs, unit->job_count, &unit->job_capacity, sizeof(Job *));
    unit->jobs[unit->job_count] = job;
    return unit->job_count++;
}

static Item *unit_add_item(Unit *unit, ItemKind kind, Asset *asset) {
    unit->items = grow(unit->items, unit->item_count, &unit->item_capacity, sizeof(Item));
    Item *item = &unit->items[unit->item_count++];
    *item = (Item){.kind = kind, .asset = asset ? asset_retain(asset) : NULL, .version = asset ? asset->version : 0};
    return item;
}

uint32_t unit_add_element(Unit *unit, const Tensor *tensor, const Blob *blob) {
    unit->elements = grow(unit->elements, unit->element_count, &unit->element_capacity, sizeof(Element));
    unit->elements[unit->element_count++] = (Element){tensor, blob};
    return (uint32_t)unit->element_count; /* element 0 of the reply is the frame */
}

void unit_clear(Unit *unit) {
    for (int i = 0; i < unit->item_count; i++) {
        const Item *item = &unit->items[i];
        if (item->kind == ITEM_LOAD_MODEL || item->kind == ITEM_LOAD_SCRIPT) blob_loaded(item->asset->blob);
        if (item->asset) asset_release(item->asset);
    }
    unit->item_count = unit->job_count = unit->element_count = 0;
    unit->active = 0;
    bytes_reset(&unit->frame, FRAME_KEPT);
}

void unit_free(Unit *unit) {
    unit_clear(unit);
    if (unit->jobs) server.Free(unit->jobs);
    if (unit->items) server.Free(unit->items);
    if (unit->elements) server.Free(unit->elements);
    bytes_free(&unit->frame);
    *unit = (Unit){0};
}

Step *item_step(const Unit *unit, const Item *item, int job) {
    return &unit->jobs[item->first_job + job]->request->steps[item->step];
}

int64_t item_samples(const Unit *unit, const Item *item) {
    int64_t samples = 0;
    for (int j = 0; j < item->job_count; j++) samples += unit->jobs[item->first_job + j]->samples;
    return samples;
}

/* ---- Choosing ---- */

int asset_is_loaded(const Asset *asset, int slot) {
    return (int)(asset->loaded[slot / 64] >> (slot % 64) & 1);
}

void asset_set_loaded(Asset *asset, int slot, int loaded) {
    uint64_t bit = UINT64_C(1) << (slot % 64);
    if (loaded) {
        asset->loaded[slot / 64] |= bit;
    } else {
        asset->loaded[slot / 64] &= ~bit;
    }
}

static Item *add_load(Worker *worker, Asset *asset) {
    blob_loading(asset->blob);
    asset_set_loaded(asset, worker->slot, 1);
    return unit_add_item(&worker->unit, asset->kind == ASSET_MODEL ? ITEM_LOAD_MODEL : ITEM_LOAD_SCRIPT, asset);
}

/* Puts a selection into the unit as items. */
static void add_selection(Worker *worker, const Selection *selection) {
    Unit *unit = &worker->unit;
    int first = unit->job_count;
    for (int i = 0; i < selection->count; i++) unit_add_job(unit, selection->jobs[i]);
    Job *head = selection->jobs[0];
    if (head->step_count == 0) {
        Item *load = add_load(worker, head->asset);
        load->first_job = first;
        load->job_count = 1;
        return;
    }
    for (int s = 0; s < head->step_count; s++) {
        Step *step = &head->request->steps[head->steps[s]];
        if (!asset_is_loaded(step->asset, worker->slot)) add_load(worker, step->asset);
        Item *run = unit_add_item(unit, ITEM_RUN, step->asset);
        run->first_job = first;
        run->job_count = selection->count;
        run->step = head->steps[s];
        step->item = unit->item_count - 1;
    }
}

static size_t selection_length(const Selection *selection) {
    size_t length = 0;
    for (int j = 0; j < selection->count; j++) {
        const Job *job = selection->jobs[j];
        for (int s = 0; s < job->step_count; s++) {
            const Step *step = &job->request->steps[job->steps[s]];
            for (int i = 0; i < step->input_count; i++) length += step->inputs[i].tensor ? step->inputs[i].tensor->length : 0;
        }
    }
    return length;
}

/* How long the selection will take; -1 if nobody knows. */
static int64_t selection_us(const Selection *selection) {
    const Job *head = selection->jobs[0];
    if (head->step_count == 0) return -1;
    int64_t us = 0;
    for (int s = 0; s < head->step_count; s++) {
        int64_t usual = head->request->steps[head->steps[s]].asset->usual_us;
        if (!usual) return -1;
        us += usual;
    }
    return us;
}

static void choose_work(Worker *worker) {
    Selection selection;
    int64_t us = 0;
    size_t bytes = 0;
    while (worker->lane->waiting && lane_peek(worker->lane, &selection)) {
        int alone = selection.jobs[0]->alone;
        int64_t more = selection_us(&selection);
        int quick = !alone && more >= 0 && more < HOP_BUDGET_US;
        if (!quick && worker->unit.job_count > 0) return; /* those that are in the unit would wait for it */
        lane_take(worker->lane, &selection);
        bytes += selection_length(&selection);
        add_selection(worker, &selection);
        us += more;
        if (!quick || us >= HOP_BUDGET_US || bytes >= HOP_BYTES) return;
        if (worker->lane->idle || worker->lane->waking) return;
        if (worker->unit.job_count + UNIT_MAX_JOBS > HOP_MAX_JOBS) return;
    }
}

static void unit_write(Worker *worker) {
    Unit *unit = &worker->unit;
    unit->id = ++last_unit;
    unit->active = 1;
    unit->started_us = now_us();
    frame_write(worker);
}

void unit_compose_job(Worker *worker, Job *job) {
    Selection selection;
    selection.count = 1;
    selection.jobs[0] = job;
    add_selection(worker, &selection);
    unit_write(worker);
}

void unit_compose(Worker *worker) {
    Unit *unit = &worker->unit;
    choose_work(worker);
    for (int i = 0; i < worker->forget_count; i++) {
        unit_add_item(unit, ITEM_UNLOAD, NULL)->version = worker->forget[i];
    }
    worker->forget_count = 0;
    unit_write(worker);
}

int unit_reply(RedisModuleCtx *ctx, const Unit *unit) {
    server.ReplyWithArray(ctx, 1 + unit->element_count);
    server.ReplyWithStringBuffer(ctx, unit->frame.data, unit->frame.length);
    for (int i = 0; i < unit->element_count; i++) {
        const Element *element = &unit->elements[i];
        if (element->tensor) {
            server.ReplyWithStringBuffer(ctx, tensor_data(element->tensor), element->tensor->length);
        } else {
            server.ReplyWithStringBuffer(ctx, blob_data(element->blob), element->blob->length);
        }
    }
    return API_OK;
}

void unit_lost(Worker *worker, int hung) {
    Unit *unit = &worker->unit;
    int count = unit->job_count;
    Job **jobs = unit->jobs;
    unit->jobs = NULL;
    unit->job_capacity = 0;
    unit->job_count = 0;
    for (int i = 0; i < unit->item_count; i++) {
        if (unit->items[i].asset) asset_set_loaded(unit->items[i].asset, worker->slot, 0);
    }
    unit_clear(unit);
    char late[96];
    snprintf(late, sizeof(late), "ERR the inference worker did not answer within %lld ms", (long long)limits.worker_timeout);
    for (int j = 0; j < count; j++) {
        Job *job = jobs[j];
        job->deaths++;
        if (!job->request->bc) {
            job_finished(job, NULL);
        } else if (hung && count == 1) {
            job_failed(job, late);
        } else if (job->deaths > 1) {
            job_failed(job, "ERR the inference worker died while it ran this request, twice");
        } else {
            queue_push_back_first(job);
        }
    }
    if (jobs) server.Free(jobs);
}
