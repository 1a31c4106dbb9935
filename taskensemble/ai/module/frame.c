/* Writing units, byte for byte as docs/inference-protocol.md describes them.
 *
 * For a run stand the inputs of all its jobs, one behind the other, so that the worker finds each input as one tensor.
 *
 * Where the bytes go: if a unit moves SHARED_FROM bytes or more, and the worker can open the server's memory, tensors of
 * LARGE_TENSOR bytes and more lie in the worker's segment, and room for the outputs is kept behind them, as much as the
 * model returned before. Otherwise large ones are elements of the reply, straight from where they are stored; small ones stand in
 * the frame. */
#include <string.h>

#include "frame.h"
#include "worker.h"

/* How a LOAD MODEL's blob comes. */
enum { STYLE_ELEMENT = 0, STYLE_MEMORY = 1 };
enum { LARGE_TENSOR = 16 * 1024, SHARED_FROM = 64 * 1024, UNIT_HEADER = 56, ITEM_HEADER = 32 };

/* Bytes of one input over all jobs of an item. */
static size_t input_length(const Unit *unit, const Item *item, int input) {
    size_t length = 0;
    for (int j = 0; j < item->job_count; j++) {
        const Tensor *tensor = item_step(unit, item, j)->inputs[input].tensor;
        if (tensor) length += tensor->length;
    }
    return length;
}

static size_t aligned(size_t length) {
    return (length + SEGMENT_ALIGNMENT - 1) / SEGMENT_ALIGNMENT * SEGMENT_ALIGNMENT;
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

/* A large model lies in sealed memory where the worker can open it; otherwise a blob is an element of the reply. */
static ItemFields place_blob(Worker *worker, const Asset *asset) {
    int large = asset->kind == ASSET_MODEL && asset->blob->length >= SHARED_FROM;
    int memory = large && worker->shared_memory ? blob_memory(asset->blob) : -1;
    if (memory >= 0) return (ItemFields){.style = STYLE_MEMORY, .d = (uint32_t)memory};
    return (ItemFields){.style = STYLE_ELEMENT, .d = unit_add_element(&worker->unit, NULL, asset->blob)};
}

static void write_load(Worker *worker, const Item *item) {
    const Asset *asset = item->asset;
    Unit *unit = &worker->unit;
    ItemFields fields = place_blob(worker, asset);
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

void frame_write(Worker *worker) {
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
            write_load(worker, item);
        }
    }
    char *header = unit->frame.data;
    store_u64(header, unit->id);
    store_u32(header + 8, (uint32_t)unit->item_count);
    store_u32(header + 12, (uint32_t)requests_waiting());
    if (!shared) return;
    store_u64(header + 16, worker->segment.id);
    store_u32(header + 24, (uint32_t)worker->segment.fd);
    store_u64(header + 32, worker->segment.size);
    store_u64(header + 40, shelf.used);
    store_u64(header + 48, worker->segment.size - shelf.used);
}
