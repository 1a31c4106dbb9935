/* Requests: what a blocked caller waits for, cut into steps and jobs. */
#ifndef TASKENSEMBLE_AI_REQUEST_H
#define TASKENSEMBLE_AI_REQUEST_H

#include <stdint.h>

#include "api.h"
#include "asset.h"
#include "tensor.h"

/* One command of a graph, or the single run of an execute. */
typedef enum StepKind { STEP_SET, STEP_GET, STEP_RUN } StepKind;
typedef enum StepState { STEP_WAITING, STEP_ISSUED, STEP_DONE, STEP_FAILED } StepState;
typedef enum CallStyle { STYLE_MODEL = 0, STYLE_ENTRY_POINT = 1, STYLE_POSITIONAL = 2 } CallStyle;

/* Where a step's input comes from: a tensor that is there, or the output of an earlier step. */
typedef struct Input {
    Tensor *tensor; /* owned reference; NULL until the producer is done */
    int step;       /* producer, or -1 */
    int output;
} Input;

typedef struct Step {
    StepKind kind;
    StepState state;
    int input_count;
    int output_count;
    Input *inputs;    /* STEP_GET has one */
    Tensor **outputs; /* owned references, NULL until known or where nobody needs one; STEP_SET has one */
    uint8_t *wanted;  /* which outputs the worker is to send back */
    int format;       /* STEP_GET, see tensor_commands.h */
    char *error;      /* STEP_FAILED: the reply */
    /* STEP_RUN */
    Asset *asset; /* owned reference */
    RedisModuleString *function;
    CallStyle style;
    int list_start;
    int key_count;
    int argument_count;
    RedisModuleString **keys;
    RedisModuleString **arguments;
    int item; /* index in the unit that carries it */
} Step;

/* An output that goes to a key when all went well. */
typedef struct Write {
    RedisModuleString *key;
    Tensor *tensor; /* owned: known from the start; else NULL */
    int step;
    int output;
} Write;

typedef enum RequestKind { REQUEST_RUN, REQUEST_GRAPH, REQUEST_STORE } RequestKind;

typedef struct Request {
    RequestKind kind;
    int references; /* one for the blocked caller, one for each job */
    RedisModuleBlockedClient *bc;
    int db;
    int step_count;
    Step *steps;
    int write_count;
    Write *writes;
    int jobs;      /* that are queued or on their way */
    int failed;    /* a step failed: nothing new is begun */
    int timed_out; /* the whole reply is TIMEDOUT */
    RedisModuleTimerID timer;
    int timer_set;
    char *error;  /* the whole reply */
    /* REQUEST_STORE */
    RedisModuleString *key;
    Asset *asset; /* owned reference */
    int ready;    /* nothing is left to wait for: in the list of those that are to be answered */
    int written;  /* its keys were */
    struct Request *ready_next;
    struct Request *next; /* requests with a blocked caller */
    struct Request *previous;
} Request;

/* Steps of one request that travel together to one worker; or the loading of an asset (step_count 0). */
typedef struct Job {
    Request *request; /* counted reference */
    Asset *asset;     /* owned: the asset of the first step, in whose queue the job waits */
    int step_count;
    int *steps;
    int64_t samples; /* dimension 0 of the inputs, for batching */
    int64_t queued_us;
    int alone;  /* a worker died with it: it is tried again by itself */
    int deaths;
    int queued;
    struct Job *next;
    struct Job *previous;
} Job;

Request *request_create(RequestKind kind, int step_count, int write_count);
void request_release(Request *request);
/* Gives step `index` room for inputs and outputs. */
void step_reserve(Step *step, int inputs, int outputs);
void step_fail(Step *step, const char *text);

/* Blocks the caller, begins what can begin, and takes over the creator's reference. timeout_ms 0: none. */
void request_submit(RedisModuleCtx *ctx, Request *request, int64_t timeout_ms);
/* The only run of a request, if all its inputs are there, or NULL. */
Step *request_only_run(Request *request);
/* Its job, which goes to no queue; and that job's end without results. */
Job *job_of_run(Request *request, Step *step);
void job_withdraw(Job *job);
/* Replies at once; for requests that need no worker. The creator keeps its reference. */
int request_reply(RedisModuleCtx *ctx, Request *request);

/* The steps of a job have their results, or its asset is loaded (error NULL) or not: the request goes on. Frees the job. */
void job_finished(Job *job, const char *error);
/* A job that cannot be run: all its steps fail with this text. Frees the job. */
void job_failed(Job *job, const char *text);
/* The server is about to sleep: answers the callers whose requests are ready, but for those that it keeps waiting. `ctx` may write. */
void requests_answer(RedisModuleCtx *ctx);
/* It will tell so each time. Until this is called requests are answered as they become ready, or at requests_tick. */
void requests_answered_before_sleep(void);
void requests_tick(void);
/* Number of callers that wait. */
int requests_waiting(void);

/* The texts of the commands that store what an asset is, for replicas and append-only files: everything behind the key.
 * Returns the count; the array and its strings are freed by store_arguments_free. */
int model_store_arguments(const Asset *model, RedisModuleString ***arguments);
int script_store_arguments(const Asset *script, RedisModuleString ***arguments);
void store_arguments_free(RedisModuleString **arguments, int count);

char *text_copy(const char *text, size_t length);

#endif
