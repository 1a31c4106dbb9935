/* Units and their frames, byte for byte as docs/inference-protocol.md describes them.
 *
 * Composing (unit_compose). A unit begins with the versions to forget, then takes batches from the lane's queues. One batch
 * is the rule. More go along while they are known to be quick, taken together shorter than HOP_BUDGET_US, and no other
 * worker is free for them: then one hop serves many callers. Before the first run of an asset on a worker the unit
 * carries its bytes. What is written for a run: inputs of all its jobs, one behind the other, so that the worker finds each
 * input as one tensor.
 *
 * Where the bytes go: if a unit moves SHARED_FROM bytes or more, and the worker can open the server's memory, tensors of
 * LARGE_TENSOR bytes and more lie in the worker's segment, and room for the outputs is kept behind them, as much as the
 * model returned before. Otherwise large ones are elements of the reply, straight from where they are stored; small ones stand in
 * the frame.
 *
 * Accepting (unit_accept). The frame is read to its end into views first, every length and shape checked; only then do
 * tensors appear and jobs finish. */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "limits.h"
#include "worker.h"

enum {
    HOP_BUDGET_US = 250,
    LARGE_TENSOR = 16 * 1024,
    SHARED_FROM = 64 * 1024,
    FRAME_KEPT = 256 * 1024,
    UNIT_HEADER = 56,
    ITEM_HEADER = 32,
    TENSOR_HEADER = 24,
    RESULT_HEADER = 24,
    FRAME_HEADER = 16,
};

typedef enum Where { WHERE_INLINE = 0, WHERE_SHARED = 1, WHERE_ELEMENT = 2, WHERE_REFERENCE = 3 } Where;

static uint64_t last_unit;

/* ---- Growing arrays ---- */

static void *grow(void *array, int count, int *capacity, size_t size) {
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

static uint32_t unit_add_element(Unit *unit, const Tensor *tensor, const Blob *blob) {
    unit->elements = grow(unit->elements, unit->element_count, &unit->element_capacity, sizeof(Element));
    unit->elements[unit->element_count++] = (Element){tensor, blob};
    return (uint32_t)unit->element_count; /* element 0 of the reply is the frame */
}

static void unit_clear(Unit *unit) {
    for (int i = 0; i < unit->item_count; i++) {
        if (unit->items[i].asset) asset_release(unit->items[i].asset);
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

/* ---- Choosing ---- */

static int is_loaded(const Asset *asset, int slot) {
    return (int)(asset->loaded[slot / 64] >> (slot % 64) & 1);
}

static void set_loaded(Asset *asset, int slot, int loaded) {
    uint64_t bit = UINT64_C(1) << (slot % 64);
    if (loaded) {
        asset->loaded[slot / 64] |= bit;
    } else {
        asset->loaded[slot / 64] &= ~bit;
    }
}

static Item *add_load(Worker *worker, Asset *asset) {
    set_loaded(asset, worker->slot, 1);
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
        if (!is_loaded(step->asset, worker->slot)) add_load(worker, step->asset);
        Item *run = unit_add_item(unit, ITEM_RUN, step->asset);
        run->first_job = first;
        run->job_count = selection->count;
        run->step = head->steps[s];
        step->item = unit->item_count - 1;
    }
}

static const Step *item_step(const Unit *unit, const Item *item, int job) {
    return &unit->jobs[item->first_job + job]->request->steps[item->step];
}

/* Bytes of one input over all jobs of an item. */
static size_t input_length(const Unit *unit, const Item *item, int input) {
    size_t length = 0;
    for (int j = 0; j < item->job_count; j++) {
        const Tensor *tensor = item_step(unit, item, j)->inputs[input].tensor;
        if (tensor) length += tensor->length;
    }
    return length;
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
    while (worker->lane->waiting && lane_select(worker->lane, &selection)) {
        int alone = selection.jobs[0]->alone;
        if (alone && worker->unit.job_count > 0) {
            queue_push_back_first(selection.jobs[0]);
            return;
        }
        int64_t more = selection_us(&selection);
        bytes += selection_length(&selection);
        add_selection(worker, &selection);
        us += more;
        if (alone || more < 0 || us >= HOP_BUDGET_US || bytes >= SHARED_FROM || worker->lane->idle) return;
        if (worker->unit.job_count + UNIT_MAX_JOBS > 4 * UNIT_MAX_JOBS) return;
    }
}

/* ---- Writing ---- */

static size_t aligned(size_t length) {
    return (length + SEGMENT_ALIGNMENT - 1) / SEGMENT_ALIGNMENT * SEGMENT_ALIGNMENT;
}

static int64_t item_samples(const Unit *unit, const Item *item) {
    int64_t samples = 0;
    for (int j = 0; j < item->job_count; j++) samples += unit->jobs[item->first_job + j]->samples;
    return samples;
}

/* Room for an item's outputs: what its asset returned before, and an eighth more. */
static size_t item_room(const Unit *unit, const Item *item) {
    if (item->asset->output_bytes <= 0) return 0;
    size_t length = (size_t)item->asset->output_bytes * (size_t)item_samples(unit, item);
    if (length < LARGE_TENSOR) return 0;
    return aligned(length + length / 8) + SEGMENT_ALIGNMENT * (size_t)item_step(unit, item, 0)->output_count;
}

/* Reserves the worker's segment if the unit is worth it. Sets how much of it inputs take and how much room follows. */
static int reserve_segment(Worker *worker, size_t *room) {
    const Unit *unit = &worker->unit;
    size_t inputs = 0;
    *room = 0;
    if (!worker->shared_memory) return 0;
    for (int i = 0; i < unit->item_count; i++) {
        const Item *item = &unit->items[i];
        if (item->kind != ITEM_RUN) continue;
        *room += item_room(unit, item);
        for (int n = 0; n < item_step(unit, item, 0)->input_count; n++) {
            size_t length = input_length(unit, item, n);
            if (length >= LARGE_TENSOR) inputs += aligned(length);
        }
    }
    if (inputs + *room < SHARED_FROM) return 0;
    return segment_reserve(&worker->segment, inputs + *room);
}

static void copy_input(const Unit *unit, const Item *item, int input, char *target) {
    for (int j = 0; j < item->job_count; j++) {
        const Tensor *tensor = item_step(unit, item, j)->inputs[input].tensor;
        if (tensor->length) memcpy(target, tensor_data(tensor), tensor->length);
        target += tensor->length;
    }
}

/* Where the writing of inputs into the segment has got to; `base` NULL: no segment. */
typedef struct Shelf {
    char *base;
    size_t used;
} Shelf;

static void write_reference(Unit *unit, const Step *producer, const Input *input) {
    char *header = bytes_extend(&unit->frame, TENSOR_HEADER);
    memset(header, 0, TENSOR_HEADER);
    store_u8(header + 2, WHERE_REFERENCE);
    store_u32(header + 4, (uint32_t)producer->item);
    store_u64(header + 8, (uint64_t)input->output);
}

static void write_tensor(Unit *unit, const Item *item, int input, Shelf *shelf) {
    const Tensor *tensor = item_step(unit, item, 0)->inputs[input].tensor;
    size_t length = input_length(unit, item, input);
    Where where = WHERE_INLINE;
    uint32_t element = 0;
    if (length >= LARGE_TENSOR && shelf->base) {
        where = WHERE_SHARED;
    } else if (length >= LARGE_TENSOR && item->job_count == 1) {
        where = WHERE_ELEMENT;
        element = unit_add_element(unit, tensor, NULL);
    }
    char *header = bytes_extend(&unit->frame, TENSOR_HEADER + 8 * (size_t)tensor->ndim);
    memset(header, 0, TENSOR_HEADER);
    store_u8(header, tensor->type);
    store_u8(header + 1, tensor->ndim);
    store_u8(header + 2, (uint8_t)where);
    store_u32(header + 4, element);
    store_u64(header + 8, where == WHERE_SHARED ? shelf->used : 0);
    store_u64(header + 16, length);
    memcpy(header + TENSOR_HEADER, tensor->dims, 8 * (size_t)tensor->ndim);
    if (item->job_count > 1) store_u64(header + TENSOR_HEADER, (uint64_t)item_samples(unit, item));
    if (where == WHERE_SHARED) {
        copy_input(unit, item, input, shelf->base + shelf->used);
        shelf->used += aligned(length);
    } else if (where == WHERE_INLINE) {
        copy_input(unit, item, input, bytes_extend(&unit->frame, length));
        bytes_pad(&unit->frame);
    }
}

static void write_string(Bytes *frame, const char *data, size_t length) {
    bytes_append_u32(frame, (uint32_t)length);
    bytes_append_u32(frame, 0);
    bytes_append(frame, data, length);
    bytes_pad(frame);
}

static void write_texts(Bytes *frame, const Texts *texts) {
    for (int i = 0; i < texts->count; i++) write_string(frame, texts->items[i], strlen(texts->items[i]));
}

static void write_strings(Bytes *frame, RedisModuleString **strings, int count) {
    for (int i = 0; i < count; i++) {
        size_t length;
        const char *data = server.StringPtrLen(strings[i], &length);
        write_string(frame, data, length);
    }
}

/* The fields of an item header that its kind gives a meaning. */
typedef struct ItemFields {
    uint8_t style;
    uint16_t a, b, c;
    uint32_t d, f;
    int32_t e;
} ItemFields;

static void write_item_header(Bytes *frame, const Item *item, ItemFields fields, const char *text, size_t length) {
    char *header = bytes_extend(frame, ITEM_HEADER);
    store_u8(header, (uint8_t)item->kind);
    store_u8(header + 1, fields.style);
    store_u16(header + 2, fields.a);
    store_u16(header + 4, fields.b);
    store_u16(header + 6, fields.c);
    store_u64(header + 8, item->version);
    store_u32(header + 16, fields.d);
    store_u32(header + 20, (uint32_t)fields.e);
    store_u32(header + 24, (uint32_t)length);
    store_u32(header + 28, fields.f);
    bytes_append(frame, text, length);
    bytes_pad(frame);
}

static void write_load(Unit *unit, const Item *item) {
    const Asset *asset = item->asset;
    ItemFields fields = {.d = unit_add_element(unit, NULL, asset->blob)};
    int named = asset->kind == ASSET_MODEL && asset->backend == BACKEND_TF;
    if (asset->kind == ASSET_SCRIPT) {
        fields.a = (uint16_t)asset->entry_points.count;
    } else {
        fields.a = named ? (uint16_t)asset->inputs.count : 0;
        fields.b = named ? (uint16_t)asset->outputs.count : 0;
        fields.e = (int32_t)(asset->batch_size > INT32_MAX ? INT32_MAX : asset->batch_size);
        fields.f = (uint32_t)(asset->min_batch_size > INT32_MAX ? INT32_MAX : asset->min_batch_size);
    }
    write_item_header(&unit->frame, item, fields, "", 0);
    if (asset->kind == ASSET_SCRIPT) write_texts(&unit->frame, &asset->entry_points);
    if (named) write_texts(&unit->frame, &asset->inputs);
    if (named) write_texts(&unit->frame, &asset->outputs);
}

static void write_run(Unit *unit, const Item *item, Shelf *shelf) {
    const Job *job = unit->jobs[item->first_job];
    const Step *step = item_step(unit, item, 0);
    size_t length = 0;
    const char *function = step->function ? server.StringPtrLen(step->function, &length) : "";
    ItemFields fields = {.style = (uint8_t)step->style,
                         .a = (uint16_t)step->input_count,
                         .b = (uint16_t)step->output_count,
                         .c = (uint16_t)step->argument_count,
                         .d = (uint32_t)step->key_count,
                         .e = step->list_start,
                         .f = (uint32_t)job->request->db};
    write_item_header(&unit->frame, item, fields, function, length);
    bytes_append(&unit->frame, step->wanted, (size_t)step->output_count);
    bytes_pad(&unit->frame);
    for (int i = 0; i < step->input_count; i++) {
        const Input *input = &step->inputs[i];
        if (input->tensor) {
            write_tensor(unit, item, i, shelf);
        } else {
            write_reference(unit, &job->request->steps[input->step], input);
        }
    }
    write_strings(&unit->frame, step->keys, step->key_count);
    write_strings(&unit->frame, step->arguments, step->argument_count);
}

static void write_frame(Worker *worker) {
    Unit *unit = &worker->unit;
    size_t room;
    int shared = reserve_segment(worker, &room);
    Shelf shelf = {.base = shared ? worker->segment.base : NULL};
    memset(bytes_extend(&unit->frame, UNIT_HEADER), 0, UNIT_HEADER);
    for (int i = 0; i < unit->item_count; i++) {
        const Item *item = &unit->items[i];
        if (item->kind == ITEM_RUN) {
            write_run(unit, item, &shelf);
        } else if (item->kind == ITEM_UNLOAD) {
            write_item_header(&unit->frame, item, (ItemFields){0}, "", 0);
        } else {
            write_load(unit, item);
        }
    }
    char *header = unit->frame.data;
    store_u64(header, unit->id);
    store_u32(header + 8, (uint32_t)unit->item_count);
    if (!shared) return;
    store_u64(header + 16, worker->segment.id);
    store_u32(header + 24, (uint32_t)worker->segment.fd);
    store_u64(header + 32, worker->segment.size);
    store_u64(header + 40, shelf.used);
    store_u64(header + 48, worker->segment.size - shelf.used);
}

int unit_compose(Worker *worker) {
    Unit *unit = &worker->unit;
    choose_work(worker);
    for (int i = 0; i < worker->forget_count; i++) {
        unit_add_item(unit, ITEM_UNLOAD, NULL)->version = worker->forget[i];
    }
    worker->forget_count = 0;
    if (unit->item_count == 0) return 0;
    unit->id = ++last_unit;
    unit->active = 1;
    unit->started_us = now_us();
    write_frame(worker);
    return 1;
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

/* ---- Reading results ---- */

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

static int read_results(const Worker *worker, RedisModuleString **arguments, int count, Results *results) {
    const Unit *unit = &worker->unit;
    size_t length;
    const char *frame = server.StringPtrLen(arguments[0], &length);
    Reader reader = reader_of(frame, length);
    const char *header = reader_take(&reader, FRAME_HEADER);
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

static void accept_run(const Unit *unit, const Item *item, const Result *result, const View *views) {
    int64_t samples = item_samples(unit, item);
    Asset *asset = item->asset;
    learn(asset, result, views, samples);
    asset->calls += item->job_count;
    int whole = item->job_count == 1;
    if (!whole && !splits(result, views, samples)) {
        asset->errors += item->job_count;
        for (int j = 0; j < item->job_count; j++) {
            step_fail((Step *)(uintptr_t)item_step(unit, item, j), "ERR Model did not generate the expected batch size");
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
        set_loaded(asset, worker->slot, 0);
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

int unit_accept(Worker *worker, RedisModuleString **arguments, int count) {
    if (!worker->unit.active) return 0;
    Results results = {0};
    int good = read_results(worker, arguments, count, &results);
    if (good) {
        act_on_results(worker, &results);
        finish_jobs(worker, &results);
    }
    results_free(&results);
    return good;
}

void unit_lost(Worker *worker, int hung) {
    Unit *unit = &worker->unit;
    int count = unit->job_count;
    Job **jobs = unit->jobs;
    unit->jobs = NULL;
    unit->job_capacity = 0;
    unit->job_count = 0;
    for (int i = 0; i < unit->item_count; i++) {
        if (unit->items[i].asset) set_loaded(unit->items[i].asset, worker->slot, 0);
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
