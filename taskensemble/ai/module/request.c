/* Requests.
 *
 * A command that needs a worker becomes a Request: its caller is blocked, and it holds everything the command named, resolved
 * when the command was read: input tensors, assets, names of output keys. From then on the keyspace may change as it likes.
 *
 * A request is a list of steps (one for an execute, one a command for a graph). Steps become jobs: a job is what one worker
 * does in one go. request_advance cuts jobs from a graph: it starts with the first step whose inputs are all there and takes
 * along every later step of the same backend and device whose inputs are there or come from steps already taken. So a graph of
 * one device is one job and one hop, and steps on different devices are jobs that run at the same time. A step of a model
 * with BATCHSIZE goes by itself, so that it can be batched with other callers' runs.
 *
 * When a job comes back (job_finished), its outputs become inputs of waiting steps, and request_advance runs again. When no job is left
 * the caller is unblocked; the reply, and the writing of outputs to keys, happen in its context (request_reply). After a failed
 * step nothing new is begun and what waits in a queue is taken out.
 *
 * A request that writes keys is not answered while the server pauses writes (CLIENT PAUSE, a failover, a shutdown that waits for
 * replicas): replicas must not see a write then, and the server ends itself when a module makes one. So requests that are ready stand in
 * a list. Before each sleep the server says so, and then those that may be answered are: their keys are written there and then, and the
 * caller is unblocked. Redis 6.2 says nothing; there a request is answered when it is ready, and its keys are written by the reply
 * callback, which a pause can forestall: the caller is told.
 *
 * References: the blocked caller holds one, every job holds one. A caller that disconnects lets go of its own; jobs under way
 * end unheard. */
#include "request.h"

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "mailbox.h"
#include "queue.h"
#include "tensor_commands.h"

#define PAUSED "ERR the server pauses writes, so the outputs were not stored: run it again"

static Request *waiting_requests;
static int waiting_count;
static Request *ready_requests; /* the first that became ready */
static Request **ready_end = &ready_requests;
static int told_before_sleep;

char *text_copy(const char *text, size_t length) {
    char *copy = server.Alloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

Request *request_create(RequestKind kind, int step_count, int write_count) {
    Request *request = server.Calloc(1, sizeof(*request));
    request->kind = kind;
    request->references = 1;
    request->step_count = step_count;
    request->write_count = write_count;
    if (step_count) request->steps = server.Calloc((size_t)step_count, sizeof(Step));
    if (write_count) request->writes = server.Calloc((size_t)write_count, sizeof(Write));
    return request;
}

void step_reserve(Step *step, int inputs, int outputs) {
    step->input_count = inputs;
    step->output_count = outputs;
    step->list_start = -1;
    if (inputs) step->inputs = server.Calloc((size_t)inputs, sizeof(Input));
    if (outputs) {
        step->outputs = server.Calloc((size_t)outputs, sizeof(Tensor *));
        step->wanted = server.Calloc((size_t)outputs, 1);
    }
    for (int i = 0; i < inputs; i++) step->inputs[i].step = -1;
}

void step_fail(Step *step, const char *text) {
    if (step->state == STEP_FAILED) return;
    step->state = STEP_FAILED;
    step->error = text_copy(text, strlen(text));
    for (char *at = step->error; *at; at++) {
        if (*at == '\n' || *at == '\r') *at = ' ';
    }
}

static void free_string_array(RedisModuleString **strings, int count) {
    for (int i = 0; i < count; i++) server.FreeString(NULL, strings[i]);
    if (strings) server.Free(strings);
}

static void step_clear(Step *step) {
    for (int i = 0; i < step->input_count; i++) {
        if (step->inputs[i].tensor) tensor_release(step->inputs[i].tensor);
    }
    for (int i = 0; i < step->output_count; i++) {
        if (step->outputs[i]) tensor_release(step->outputs[i]);
    }
    if (step->inputs) server.Free(step->inputs);
    if (step->outputs) server.Free(step->outputs);
    if (step->wanted) server.Free(step->wanted);
    if (step->asset) asset_release(step->asset);
    if (step->function) server.FreeString(NULL, step->function);
    free_string_array(step->keys, step->key_count);
    free_string_array(step->arguments, step->argument_count);
    if (step->error) server.Free(step->error);
}

void request_release(Request *request) {
    if (--request->references > 0) return;
    for (int i = 0; i < request->step_count; i++) step_clear(&request->steps[i]);
    for (int i = 0; i < request->write_count; i++) {
        if (request->writes[i].key) server.FreeString(NULL, request->writes[i].key);
        if (request->writes[i].tensor) tensor_release(request->writes[i].tensor);
    }
    if (request->steps) server.Free(request->steps);
    if (request->writes) server.Free(request->writes);
    if (request->key) server.FreeString(NULL, request->key);
    if (request->asset) asset_release(request->asset);
    if (request->error) server.Free(request->error);
    server.Free(request);
}

/* ---- Answering ---- */

static void waiting_add(Request *request) {
    request->next = waiting_requests;
    if (waiting_requests) waiting_requests->previous = request;
    waiting_requests = request;
    waiting_count++;
}

static void waiting_remove(Request *request) {
    if (request->previous) request->previous->next = request->next;
    if (request->next) request->next->previous = request->previous;
    if (waiting_requests == request) waiting_requests = request->next;
    request->next = request->previous = NULL;
    waiting_count--;
}

int requests_waiting(void) {
    return waiting_count;
}

/* Ends the wait: the reply callback runs before the server sleeps again, or only the release if the caller is gone. */
static void request_unblock(Request *request) {
    RedisModuleBlockedClient *bc = request->bc;
    if (!bc) return;
    request->bc = NULL;
    waiting_remove(request);
    if (request->timer_set) server.StopTimer(module_context, request->timer, NULL);
    request->timer_set = 0;
    if (server.BlockedClientMeasureTimeEnd) server.BlockedClientMeasureTimeEnd(bc);
    server.UnblockClient(bc, request);
}

static void release_private_data(RedisModuleCtx *ctx, void *data) {
    (void)ctx;
    if (data) request_release(data);
}

/* Puts an output into its key, and tells replicas. */
static void write_output(RedisModuleCtx *ctx, const Write *write, Tensor *tensor) {
    RedisModuleKey *key = server.OpenKey(ctx, write->key, KEY_READ | KEY_WRITE);
    server.ModuleTypeSetValue(key, tensor_type, tensor_retain(tensor));
    server.CloseKey(key);
    tensor_replicate(ctx, write->key, tensor);
}

/* Whether every key that is to be written is free for a tensor. */
static int writes_allowed(RedisModuleCtx *ctx, const Request *request) {
    int allowed = 1;
    for (int i = 0; i < request->write_count && allowed; i++) {
        RedisModuleKey *key = server.OpenKey(ctx, request->writes[i].key, KEY_READ);
        int type = server.KeyType(key);
        allowed = type == KEYTYPE_EMPTY || (type == KEYTYPE_MODULE && server.ModuleTypeGetType(key) == tensor_type);
        server.CloseKey(key);
    }
    return allowed;
}

static void write_outputs(RedisModuleCtx *ctx, const Request *request) {
    for (int i = 0; i < request->write_count; i++) {
        const Write *write = &request->writes[i];
        Tensor *tensor = write->tensor ? write->tensor : request->steps[write->step].outputs[write->output];
        if (tensor) write_output(ctx, write, tensor);
    }
}

/* Whether answering it changes keys. */
static int request_writes(const Request *request) {
    if (request->written || request->timed_out || request->failed || request->error) return 0;
    return request->kind == REQUEST_STORE || request->write_count > 0;
}

static void request_write(RedisModuleCtx *ctx, Request *request) {
    if (!request_writes(request)) return;
    const char *error = NULL;
    if (request->kind == REQUEST_STORE) {
        error = asset_put(ctx, request->key, request->asset);
    } else if (writes_allowed(ctx, request)) {
        write_outputs(ctx, request);
    } else {
        error = WRONGTYPE;
    }
    request->written = 1;
    if (error) request->error = text_copy(error, strlen(error));
}

static int reply_run(RedisModuleCtx *ctx, const Request *request) {
    if (request->steps[0].state == STEP_FAILED) return server.ReplyWithError(ctx, request->steps[0].error);
    return server.ReplyWithSimpleString(ctx, "OK");
}

static void reply_step(RedisModuleCtx *ctx, const Step *step, int after_failure) {
    if (after_failure || (step->state != STEP_DONE && step->state != STEP_FAILED)) {
        server.ReplyWithSimpleString(ctx, "NA");
    } else if (step->state == STEP_FAILED) {
        server.ReplyWithError(ctx, step->error);
    } else if (step->kind == STEP_GET) {
        tensor_reply(ctx, step->inputs[0].tensor, step->format);
    } else {
        server.ReplyWithSimpleString(ctx, "OK");
    }
}

static int reply_graph(RedisModuleCtx *ctx, const Request *request) {
    server.ReplyWithArray(ctx, request->step_count);
    int after_failure = 0;
    for (int i = 0; i < request->step_count; i++) {
        reply_step(ctx, &request->steps[i], after_failure);
        if (request->steps[i].state == STEP_FAILED) after_failure = 1;
    }
    return API_OK;
}

int request_reply(RedisModuleCtx *ctx, Request *request) {
    if (request->timed_out) return server.ReplyWithSimpleString(ctx, "TIMEDOUT");
    request_write(ctx, request);
    if (request->error) return server.ReplyWithError(ctx, request->error);
    if (request->kind == REQUEST_STORE) return server.ReplyWithSimpleString(ctx, "OK");
    if (request->kind == REQUEST_GRAPH) return reply_graph(ctx, request);
    return reply_run(ctx, request);
}

/* ---- When ---- */

static int writes_paused(void) {
    return server.AvoidReplicaTraffic && server.AvoidReplicaTraffic();
}

static void ready_remove(Request *request) {
    Request **link = &ready_requests;
    while (*link != request) link = &(*link)->ready_next;
    *link = request->ready_next;
    if (ready_end == &request->ready_next) ready_end = link;
    request->ready = 0;
}

void requests_answered_before_sleep(void) {
    told_before_sleep = 1;
}

void requests_answer(RedisModuleCtx *ctx) {
    if (!ready_requests) return;
    int paused = writes_paused();
    Request *request = ready_requests;
    while (request) {
        Request *next = request->ready_next;
        if (!paused || !request_writes(request)) {
            ready_remove(request);
            if (ctx) {
                server.SelectDb(ctx, request->db);
                request_write(ctx, request);
            }
            request_unblock(request);
        }
        request = next;
    }
}

static void request_ready(Request *request) {
    if (!request->bc || request->ready) return;
    if (request->timer_set) server.StopTimer(module_context, request->timer, NULL);
    request->timer_set = 0;
    request->ready = 1;
    request->ready_next = NULL;
    *ready_end = request;
    ready_end = &request->ready_next;
    if (!told_before_sleep) requests_answer(NULL);
}

void requests_tick(void) {
    if (!told_before_sleep) requests_answer(NULL);
}

static int reply_unblocked(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    Request *request = server.GetBlockedClientPrivateData(ctx);
    if (request_writes(request) && writes_paused()) return server.ReplyWithError(ctx, PAUSED);
    return request_reply(ctx, request);
}

/* ---- Jobs ---- */

static Job *job_create(Request *request, Asset *asset, int step_count) {
    Job *job = server.Calloc(1, sizeof(*job) + (size_t)step_count * sizeof(int));
    job->request = request;
    request->references++;
    request->jobs++;
    job->asset = asset_retain(asset);
    job->step_count = step_count;
    job->steps = (int *)(job + 1);
    return job;
}

static void job_free(Job *job) {
    job->request->jobs--;
    request_release(job->request);
    asset_release(job->asset);
    server.Free(job);
}

/* Takes the request's jobs out of the queues; returns how many there were. */
static int withdraw_jobs(Request *request) {
    int withdrawn = 0;
    Job *job;
    while ((job = queue_find(request)) != NULL) {
        queue_remove(job);
        job_free(job);
        withdrawn++;
    }
    return withdrawn;
}

static int input_ready(const Step *step, const uint8_t *taken) {
    for (int i = 0; i < step->input_count; i++) {
        const Input *input = &step->inputs[i];
        if (!input->tensor && !(taken && taken[input->step])) return 0;
    }
    return 1;
}

static int uses_taken(const Step *step, const uint8_t *taken) {
    for (int i = 0; i < step->input_count; i++) {
        if (!step->inputs[i].tensor && taken[step->inputs[i].step]) return 1;
    }
    return 0;
}

/* Marks the outputs of the taken steps that somebody outside the job needs. */
static void mark_wanted(Request *request, const uint8_t *taken) {
    for (int i = 0; i < request->write_count; i++) {
        const Write *write = &request->writes[i];
        if (!write->tensor) request->steps[write->step].wanted[write->output] = 1;
    }
    for (int s = 0; s < request->step_count; s++) {
        const Step *step = &request->steps[s];
        if (taken[s]) continue;
        for (int i = 0; i < step->input_count; i++) {
            const Input *input = &step->inputs[i];
            if (!input->tensor && input->step >= 0 && taken[input->step]) {
                request->steps[input->step].wanted[input->output] = 1;
            }
        }
    }
}

static int64_t step_samples(const Step *step) {
    if (step->style != STYLE_MODEL || step->input_count == 0 || !step->inputs[0].tensor) return 1;
    const Tensor *first = step->inputs[0].tensor;
    return first->ndim ? first->dims[0] : 1;
}

/* Cuts the job that begins with step `first` and queues it. */
static void issue_job(Request *request, int first) {
    uint8_t *taken = server.Calloc((size_t)request->step_count, 1);
    Step *head = &request->steps[first];
    Lane *lane = lane_of_asset(head->asset);
    int count = 1;
    taken[first] = 1;
    int alone = head->asset->batch_size > 0;
    for (int s = first + 1; s < request->step_count && !alone; s++) {
        Step *step = &request->steps[s];
        if (step->kind != STEP_RUN || step->state != STEP_WAITING || step->asset->batch_size > 0) continue;
        if (lane_of_asset(step->asset) != lane || !input_ready(step, taken)) continue;
        if (lane->worker_count > 1 && !uses_taken(step, taken)) continue;
        taken[s] = 1;
        count++;
    }
    Job *job = job_create(request, head->asset, count);
    int at = 0;
    for (int s = first; s < request->step_count; s++) {
        if (!taken[s]) continue;
        job->steps[at++] = s;
        request->steps[s].state = STEP_ISSUED;
    }
    mark_wanted(request, taken);
    server.Free(taken);
    job->samples = step_samples(head);
    queue_push(job);
}

/* Hands finished outputs to the steps that wait for them. */
static void distribute_outputs(Request *request) {
    for (int s = 0; s < request->step_count; s++) {
        Step *step = &request->steps[s];
        for (int i = 0; i < step->input_count; i++) {
            Input *input = &step->inputs[i];
            if (input->tensor || input->step < 0) continue;
            Step *producer = &request->steps[input->step];
            Tensor *tensor = producer->state == STEP_DONE ? producer->outputs[input->output] : NULL;
            if (tensor) input->tensor = tensor_retain(tensor);
        }
        if (step->kind == STEP_GET && step->state == STEP_WAITING && step->inputs[0].tensor) step->state = STEP_DONE;
    }
}

Step *request_only_run(Request *request) {
    if (request->kind == REQUEST_RUN) return &request->steps[0];
    if (request->kind != REQUEST_GRAPH) return NULL;
    distribute_outputs(request);
    Step *only = NULL;
    for (int s = 0; s < request->step_count; s++) {
        Step *step = &request->steps[s];
        if (step->kind != STEP_RUN) continue;
        if (only || step->state != STEP_WAITING || !input_ready(step, NULL)) return NULL;
        only = step;
    }
    return only;
}

/* All outputs of an execute go to keys: the short way. */
Job *job_of_run(Request *request, Step *step) {
    Job *job = job_create(request, step->asset, 1);
    job->steps[0] = (int)(step - request->steps);
    step->state = STEP_ISSUED;
    if (request->kind == REQUEST_GRAPH) {
        uint8_t *taken = server.Calloc((size_t)request->step_count, 1);
        taken[job->steps[0]] = 1;
        mark_wanted(request, taken);
        server.Free(taken);
    } else if (step->output_count) {
        memset(step->wanted, 1, (size_t)step->output_count);
    }
    job->samples = step_samples(step);
    return job;
}

void job_withdraw(Job *job) {
    job->request->steps[job->steps[0]].state = STEP_WAITING;
    job_free(job);
}

/* Begins every step that can begin; unblocks the caller when nothing is left to wait for. */
static void request_advance(Request *request) {
    if (request->kind == REQUEST_GRAPH) distribute_outputs(request);
    for (int s = 0; s < request->step_count && !request->failed; s++) {
        Step *step = &request->steps[s];
        if (step->kind == STEP_RUN && step->state == STEP_WAITING && input_ready(step, NULL)) issue_job(request, s);
    }
    if (request->jobs == 0) request_ready(request);
}

void job_finished(Job *job, const char *error) {
    Request *request = job->request;
    request->references++;
    for (int i = 0; i < job->step_count; i++) {
        if (request->steps[job->steps[i]].state == STEP_FAILED) request->failed = 1;
    }
    if (error && !request->error) request->error = text_copy(error, strlen(error));
    job_free(job);
    if (request->bc) {
        if (request->failed) withdraw_jobs(request);
        request_advance(request);
    }
    request_release(request);
}

void job_failed(Job *job, const char *text) {
    if (job->step_count) step_fail(&job->request->steps[job->steps[0]], text);
    job_finished(job, job->step_count ? NULL : text);
}

/* ---- Beginning and giving up ---- */

static void request_abandon(Request *request) {
    withdraw_jobs(request);
    if (request->ready) ready_remove(request);
    request_unblock(request);
}

static void on_timeout(RedisModuleCtx *ctx, void *data) {
    (void)ctx;
    Request *request = data;
    request->timer_set = 0;
    if (!queue_find(request)) return; /* everything is on its way: the time-out is for waiting */
    request->timed_out = 1;
    request_abandon(request);
}

static void on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc) {
    (void)ctx;
    for (Request *request = waiting_requests; request; request = request->next) {
        if (request->bc == bc) {
            request_abandon(request);
            return;
        }
    }
}

void request_submit(RedisModuleCtx *ctx, Request *request, int64_t timeout_ms) {
    request->db = server.GetSelectedDb(ctx);
    if (mailbox_run(request)) {
        if (request->kind == REQUEST_GRAPH) distribute_outputs(request);
        request_reply(ctx, request);
        request_release(request);
        return;
    }
    request->bc = server.BlockClient(ctx, reply_unblocked, NULL, release_private_data, 0);
    server.SetDisconnectCallback(request->bc, on_disconnect);
    if (server.BlockedClientMeasureTimeStart) server.BlockedClientMeasureTimeStart(request->bc);
    waiting_add(request);
    if (timeout_ms > 0) {
        request->timer = server.CreateTimer(ctx, timeout_ms, on_timeout, request);
        request->timer_set = 1;
    }
    request->references++;
    if (request->kind == REQUEST_STORE) {
        queue_push(job_create(request, request->asset, 0));
    } else if (request->kind == REQUEST_RUN) {
        queue_push(job_of_run(request, &request->steps[0]));
    } else {
        request_advance(request);
    }
    request_release(request);
}
