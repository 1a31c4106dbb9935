/* Results: reading what a worker answers, and finishing the unit's jobs with it.
 *
 * The frame is read to its end into views first, every length and shape checked; only then do tensors appear and jobs
 * finish. A malformed frame changes nothing. */
#include <string.h>

#include "frame.h"
#include "worker.h"

/* A tensor as it stands in a result. */
typedef struct View {
    ElementType type;
    int ndim;
    int64_t dims[TENSOR_MAX_DIMENSIONS];
    const char *data;
    size_t length;
    RedisModuleString *argument; /* the argument that is exactly these bytes, or NULL */
} View;

typedef enum Status { STATUS_OK = 0, STATUS_ERROR = 1, STATUS_SKIPPED = 2 } Status;

typedef struct Result {
    Status status;
    const char *text;
    size_t text_length;
    int64_t us;
    int32_t first_count;  /* LOAD: inputs; RUN: tensors */
    int32_t second_count; /* LOAD: outputs */
    int views;            /* index of the first view */
    Texts inputs;
    Texts outputs;
} Result;

typedef struct Results {
    Result *results;
    int result_count;
    View *views;
    int view_count;
    int view_capacity;
} Results;

static void results_free(Results *results) {
    for (int i = 0; i < results->result_count; i++) {
        texts_free(&results->results[i].inputs);
        texts_free(&results->results[i].outputs);
    }
    if (results->results) server.Free(results->results);
    if (results->views) server.Free(results->views);
}

/* Where the bytes of a tensor are to be found. Returns 0 if there are none of that kind. */
static int view_locate(const Worker *worker, RedisModuleString **arguments, int count, Reader *reader, const char *header, View *view) {
    uint64_t offset = load_u64(header + 8);
    uint64_t length = load_u64(header + 16);
    uint32_t element = load_u32(header + 4);
    view->length = length;
    view->argument = NULL;
    switch (load_u8(header + 2)) {
    case WHERE_INLINE:
        view->data = reader_take(reader, length);
        return view->data != NULL;
    case WHERE_SHARED:
        if (!worker->segment.base || offset > worker->segment.size || length > worker->segment.size - offset) return 0;
        view->data = worker->segment.base + offset;
        return 1;
    case WHERE_ELEMENT:
        if (element < 1 || element >= (uint32_t)count) return 0;
        view->argument = arguments[element];
        view->data = server.StringPtrLen(view->argument, &view->length);
        return view->length == length;
    default:
        return 0;
    }
}

static int read_view(const Worker *worker, RedisModuleString **arguments, int count, Reader *reader, View *view) {
    const char *header = reader_take(reader, TENSOR_HEADER);
    if (!header) return 0;
    view->type = (ElementType)load_u8(header);
    view->ndim = load_u8(header + 1);
    if (view->type < ELEMENT_FLOAT || view->type > ELEMENT_STRING || view->ndim > TENSOR_MAX_DIMENSIONS) return 0;
    const char *dims = reader_take(reader, 8 * (size_t)view->ndim);
    if (!dims) return 0;
    memcpy(view->dims, dims, 8 * (size_t)view->ndim);
    int64_t elements = shape_count(view->dims, view->ndim);
    if (elements < 0 || !view_locate(worker, arguments, count, reader, header, view)) return 0;
    if (view->type == ELEMENT_STRING) return strings_well_formed(view->data, view->length, elements);
    return view->length == (size_t)elements * element_size(view->type);
}

static int read_views(const Worker *worker, RedisModuleString **arguments, int count, Reader *reader, Results *results,
                      Result *result) {
    result->views = results->view_count;
    for (int i = 0; i < result->first_count; i++) {
        results->views = grow(results->views, results->view_count, &results->view_capacity, sizeof(View));
        if (!read_view(worker, arguments, count, reader, &results->views[results->view_count])) return 0;
        results->view_count++;
    }
    return 1;
}

static int read_texts(Reader *reader, int32_t count, Texts *texts) {
    if (count <= 0) return 1;
    if (count > TEXTS_MAX || (size_t)count > (size_t)(reader->end - reader->at) / 8) return 0;
    *texts = texts_create(count);
    for (int i = 0; i < count; i++) {
        const char *header = reader_take(reader, 8);
        const char *data = header ? reader_take(reader, load_u32(header)) : NULL;
        if (!data) return 0;
        texts_set(texts, i, data, load_u32(header));
    }
    return 1;
}

/* How many outputs an item is to send back. */
static int wanted_count(const Step *step) {
    int wanted = 0;
    for (int i = 0; i < step->output_count; i++) wanted += step->wanted[i];
    return wanted;
}

static int read_result(const Worker *worker, const Item *item, RedisModuleString **arguments, int count, Reader *reader,
                       Results *results, Result *result) {
    const char *header = reader_take(reader, RESULT_HEADER);
    if (!header || load_u8(header) > STATUS_SKIPPED) return 0;
    result->status = (Status)load_u8(header);
    result->text_length = load_u32(header + 4);
    uint64_t us = load_u64(header + 8);
    result->us = us < 1 ? 1 : us > INT32_MAX ? INT32_MAX : (int64_t)us;
    result->first_count = load_i32(header + 16);
    result->second_count = load_i32(header + 20);
    result->text = reader_take(reader, result->text_length);
    if (!result->text) return 0;
    if (result->status != STATUS_OK) return 1;
    if (item->kind == ITEM_RUN) {
        if (result->first_count != wanted_count(item_step(&worker->unit, item, 0))) return 0;
        return read_views(worker, arguments, count, reader, results, result);
    }
    if (result->first_count < -1 || result->second_count < -1) return 0;
    return read_texts(reader, result->first_count, &result->inputs) && read_texts(reader, result->second_count, &result->outputs);
}

/* What a worker answers: a frame, and the arguments of its command, of which the first is the frame. */
static int read_results(const Worker *worker, const char *frame, size_t length, RedisModuleString **arguments, int count,
                        Results *results) {
    const Unit *unit = &worker->unit;
    Reader reader = reader_of(frame, length);
    const char *header = reader_take(&reader, RESULTS_HEADER);
    if (!header || load_u64(header) != unit->id) return 0;
    int expected = 0;
    for (int i = 0; i < unit->item_count; i++) expected += unit->items[i].kind != ITEM_UNLOAD;
    if (load_u32(header + 8) != (uint32_t)expected) return 0;
    results->results = server.Calloc((size_t)expected + 1, sizeof(Result));
    for (int i = 0; i < unit->item_count; i++) {
        const Item *item = &unit->items[i];
        if (item->kind == ITEM_UNLOAD) continue;
        Result *result = &results->results[results->result_count++];
        if (!read_result(worker, item, arguments, count, &reader, results, result)) return 0;
    }
    return 1;
}

/* ---- Acting on results ---- */

static void learn(Asset *asset, const Result *result, const View *views, int64_t samples) {
    asset->usual_us = asset->usual_us ? (asset->usual_us * 7 + result->us) / 8 : result->us;
    if (asset->usual_us < 1) asset->usual_us = 1;
    int64_t typical = asset->typical_us;
    asset->typical_us = !typical ? result->us : result->us > typical ? typical + 1 + typical / 16 : typical - (typical - result->us) / 4;
    int64_t bytes = 0;
    for (int i = 0; i < result->first_count; i++) bytes += (int64_t)views[i].length;
    bytes = samples > 0 ? (bytes + samples - 1) / samples : bytes;
    int64_t before = asset->output_bytes;
    asset->output_bytes = bytes >= before ? bytes : before - (before - bytes) / 8;
}

static Tensor *tensor_of_view(const View *view) {
    if (view->argument) return tensor_create_on(view->type, view->dims, view->ndim, view->argument);
    Tensor *tensor = tensor_create(view->type, view->dims, view->ndim, view->length);
    if (tensor && view->length) memcpy(tensor_bytes(tensor), view->data, view->length);
    return tensor;
}

/* `count` samples of a view, from `first` on. */
static Tensor *tensor_of_slice(const View *view, int64_t first, int64_t count) {
    int64_t dims[TENSOR_MAX_DIMENSIONS];
    memcpy(dims, view->dims, (size_t)view->ndim * sizeof(int64_t));
    int64_t each = shape_count(dims + 1, view->ndim - 1);
    dims[0] = count;
    size_t offset, length;
    tensor_slice(view->data, view->length, view->type, view->dims[0], each, first, count, &offset, &length);
    Tensor *tensor = tensor_create(view->type, dims, view->ndim, length);
    if (tensor && length) memcpy(tensor_bytes(tensor), view->data + offset, length);
    return tensor;
}

/* Gives a job its part of the outputs; `first` is its first sample, or -1 for all of them. */
static void take_outputs(Step *step, const View *views, int64_t first, int64_t samples) {
    for (int i = 0; i < step->output_count; i++) {
        if (!step->wanted[i]) continue;
        step->outputs[i] = first < 0 ? tensor_of_view(views) : tensor_of_slice(views, first, samples);
        if (!step->outputs[i]) {
            step_fail(step, "ERR not enough memory for the outputs");
            return;
        }
        views++;
    }
    step->state = STEP_DONE;
}

static int splits(const Result *result, const View *views, int64_t samples) {
    for (int i = 0; i < result->first_count; i++) {
        if (views[i].ndim == 0 || views[i].dims[0] != samples) return 0;
    }
    return 1;
}

/* Counts the batch, and for each of its requests the time since it was queued. A job of several steps came in one hop: of each of
 * its steps the wait for the worker and its own run. */
static void count_batch(const Unit *unit, const Item *item, const Result *result, int64_t samples) {
    Figures *figures = &item->asset->figures;
    int64_t now = now_us();
    figures_batch(figures, item->job_count, samples);
    for (int j = 0; j < item->job_count; j++) {
        const Job *job = unit->jobs[item->first_job + j];
        int64_t end = job->step_count == 1 ? now : unit->started_us + result->us;
        figures_latency(figures, end - job->queued_us);
    }
}

static void accept_run(const Unit *unit, const Item *item, const Result *result, const View *views) {
    int64_t samples = item_samples(unit, item);
    Asset *asset = item->asset;
    count_batch(unit, item, result, samples);
    learn(asset, result, views, samples);
    asset->calls += item->job_count;
    int whole = item->job_count == 1;
    if (!whole && !splits(result, views, samples)) {
        asset->errors += item->job_count;
        for (int j = 0; j < item->job_count; j++) {
            step_fail(item_step(unit, item, j), "ERR Model did not generate the expected batch size");
        }
        return;
    }
    asset->duration_us += result->us;
    asset->samples += samples;
    int64_t first = 0;
    for (int j = 0; j < item->job_count; j++) {
        Job *job = unit->jobs[item->first_job + j];
        take_outputs(&job->request->steps[item->step], views, whole ? -1 : first, job->samples);
        first += job->samples;
    }
}

/* The text of a failed run: its own, or that of the load that failed before it in the unit. */
static void accept_failure(const Unit *unit, const Item *item, const Result *result, const char *load_error) {
    char *text = result->status == STATUS_ERROR ? text_copy(result->text, result->text_length) : NULL;
    const char *shown = text ? text : load_error;
    for (int j = 0; j < item->job_count && shown; j++) {
        step_fail(&unit->jobs[item->first_job + j]->request->steps[item->step], *shown ? shown : "ERR the backend failed");
        item->asset->calls++;
        item->asset->errors++;
    }
    if (text) server.Free(text);
}

static void accept_load(const Worker *worker, Asset *asset, Result *result) {
    if (result->status != STATUS_OK) {
        asset_set_loaded(asset, worker->slot, 0);
        return;
    }
    if (asset->kind != ASSET_MODEL) return;
    asset->input_count = result->first_count;
    asset->output_count = result->second_count;
    if (asset->backend == BACKEND_TF) return;
    texts_free(&asset->inputs);
    texts_free(&asset->outputs);
    asset->inputs = result->inputs;
    asset->outputs = result->outputs;
    result->inputs = result->outputs = (Texts){0};
}

/* The text of the unit's failed load of this asset, or NULL. */
static char *load_error_of(const Unit *unit, const Results *results, const Asset *asset) {
    int r = 0;
    for (int i = 0; i < unit->item_count; i++) {
        const Item *item = &unit->items[i];
        if (item->kind == ITEM_UNLOAD) continue;
        const Result *result = &results->results[r++];
        if (item->kind != ITEM_RUN && item->asset == asset && result->status == STATUS_ERROR) {
            return text_copy(result->text, result->text_length);
        }
    }
    return NULL;
}

static void act_on_results(Worker *worker, Results *results) {
    Unit *unit = &worker->unit;
    int r = 0;
    for (int i = 0; i < unit->item_count; i++) {
        Item *item = &unit->items[i];
        if (item->kind == ITEM_UNLOAD) continue;
        Result *result = &results->results[r++];
        if (item->kind != ITEM_RUN) {
            accept_load(worker, item->asset, result);
        } else if (result->status == STATUS_OK) {
            accept_run(unit, item, result, results->views + result->views);
        } else {
            char *load_error = load_error_of(unit, results, item->asset);
            accept_failure(unit, item, result, load_error);
            if (load_error) server.Free(load_error);
        }
    }
}

/* Whether this job was in a batch in which the backend raised an error. One of its requests may be the cause: each deserves a
 * run of its own. */
static int batch_failed(const Unit *unit, const Results *results, int job) {
    int r = 0;
    for (int i = 0; i < unit->item_count; i++) {
        const Item *item = &unit->items[i];
        if (item->kind == ITEM_UNLOAD) continue;
        const Result *result = &results->results[r++];
        if (item->kind != ITEM_RUN || item->job_count < 2 || result->status != STATUS_ERROR) continue;
        if (job >= item->first_job && job < item->first_job + item->job_count) return 1;
    }
    return 0;
}

static void retry_alone(Job *job) {
    Step *step = &job->request->steps[job->steps[0]];
    server.Free(step->error);
    step->error = NULL;
    step->state = STEP_ISSUED;
    job->asset->calls--;
    job->asset->errors--;
    queue_push_back_first(job);
}

/* The error of a job that was the loading of an asset. */
static char *store_error(const Unit *unit, const Results *results, int job) {
    int r = 0;
    for (int i = 0; i < unit->item_count; i++) {
        const Item *item = &unit->items[i];
        if (item->kind == ITEM_UNLOAD) continue;
        const Result *result = &results->results[r++];
        if (item->kind == ITEM_RUN || item->job_count == 0 || item->first_job != job) continue;
        if (result->status == STATUS_OK) return NULL;
        return text_copy(result->text_length ? result->text : "ERR the backend failed",
                         result->text_length ? result->text_length : strlen("ERR the backend failed"));
    }
    return NULL;
}

/* Finishes the unit's jobs. They are moved out first: what finishing sets off must find the worker without a unit. */
static void finish_jobs(Worker *worker, const Results *results) {
    Unit *unit = &worker->unit;
    int count = unit->job_count;
    Job **jobs = server.Alloc(sizeof(Job *) * (size_t)(count + 1));
    char **errors = server.Calloc((size_t)count + 1, sizeof(char *));
    uint8_t *again = server.Calloc((size_t)count + 1, 1);
    for (int j = 0; j < count; j++) {
        jobs[j] = unit->jobs[j];
        if (jobs[j]->step_count == 0) {
            errors[j] = store_error(unit, results, j);
        } else {
            again[j] = (uint8_t)(jobs[j]->request->bc && batch_failed(unit, results, j));
        }
    }
    unit_clear(unit);
    for (int j = 0; j < count; j++) {
        if (again[j]) {
            retry_alone(jobs[j]);
        } else {
            job_finished(jobs[j], errors[j]);
        }
        if (errors[j]) server.Free(errors[j]);
    }
    server.Free(jobs);
    server.Free(errors);
    server.Free(again);
}

static int accept(Worker *worker, const char *frame, size_t length, RedisModuleString **arguments, int count) {
    if (!worker->unit.active) return 0;
    Results results = {0};
    int good = read_results(worker, frame, length, arguments, count, &results);
    if (good) {
        act_on_results(worker, &results);
        finish_jobs(worker, &results);
    }
    results_free(&results);
    return good;
}

int unit_accept(Worker *worker, RedisModuleString **arguments, int count) {
    size_t length;
    const char *frame = server.StringPtrLen(arguments[0], &length);
    return accept(worker, frame, length, arguments, count);
}

int unit_accept_frame(Worker *worker, const char *frame, size_t length) {
    return accept(worker, frame, length, NULL, 0);
}
