/* The quick way through small units: docs/inference-protocol.md, without Python around the backend's own call.
 *
 * A simulation asks for the same model again and again with tensors of the same shapes. Such runs differ from one another in the
 * bytes of their inputs alone. So the parts of a RUN item that stay (header, shapes, paddings) are remembered as a form, with
 * arrays that its inputs are copied into and the callable that takes them. A unit whose items all have a known form is
 * answered here: receive, compare, copy, call, write, send. Everything else (loading, scripts, graphs, large tensors, errors) is left in
 * the receive buffer for the Python loop, which does all of it and teaches this one new forms.
 *
 * Only models without a state are remembered: when one raises, or returns what is not simple, the whole unit is left to the Python
 * loop, which runs it again and finds the words for it.
 *
 * The library is loaded with ctypes.PyDLL, so every function here is entered with the interpreter's lock held; it is let go while the
 * socket is waited for. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "../../taskensemble/ai/module/mailbox_memory.h"
#include "python_abi.h"

#define EXPORTED __attribute__((visibility("default")))

enum { UNIT_HEADER = 56, ITEM_HEADER = 32, RESULTS_HEADER = 16, RESULT_HEADER = 24, TENSOR_HEADER = 24 };
enum { KIND_RUN = 4, OUTPUT_MAX = 16 * 1024, ITEMS_MAX = 1024 };
enum { BUCKETS = 64, FORMS_OF_A_VERSION = 32 };
/* Room before the result frame for the command's words: NEXT, the worker's id, and the frame's length. */
enum { COMMAND_ROOM = 96 };
/* What receive returns when a unit has come through the mailbox, not the socket. */
enum { MAIL = -(1 << 20) };
/* A look at the socket takes about 1 us: one that took so long lost its core to somebody else. After a few of those the next
 * replies are waited for asleep. */
enum { DISPLACED_NS = 20000, CROWDED_AFTER = 2, PAUSE = 500 };

/* Bytes that stay, then bytes of an input that are copied to an array of its own. */
typedef struct Part {
    char *fixed;
    size_t fixed_length;
    char *input;
    size_t input_length;
} Part;

typedef struct Form {
    uint64_t version;
    size_t length;
    PyObject *call;
    PyObject *arguments; /* a tuple of the arrays */
    int outputs;
    int single; /* the call returns the output itself, no sequence of one */
    int refused; /* it returned what is not simple: left to the Python loop from then on */
    struct Form *next;
    int part_count;
    Part parts[];
} Form;

/* How often the mailbox is looked into before the socket. */
enum { LOOKS = 16 };

typedef struct Quick {
    Mailbox *mailbox; /* NULL: there is none */
    int fd;
    char *buffer; /* the connection's receive buffer */
    size_t capacity;
    char *command; /* words of NEXT before the frame's length */
    size_t command_length;
    int64_t poll_ns;
    uint32_t cores;
    uint32_t callers; /* that waited when the last unit was put together */
    int crowded;
    int pause;
    PyObject *bytes_of; /* makes an object with a buffer of an output; NULL: outputs have one */
    Form *forms[BUCKETS];
    char *answer; /* COMMAND_ROOM bytes, then the result frame */
    size_t answer_capacity;
    size_t end; /* of the answer */
} Quick;

static uint32_t load_u32(const char *at) {
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t load_u64(const char *at) {
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- Forms ---- */

static Form **bucket_of(Quick *quick, uint64_t version) {
    return &quick->forms[version % BUCKETS];
}

static void form_free(Form *form) {
    for (int i = 0; i < form->part_count; i++) free(form->parts[i].fixed);
    Py_DecRef(form->call);
    Py_DecRef(form->arguments);
    free(form);
}

/* Whether an item of this form stands at `item`. */
static int form_matches(const Form *form, const char *item, size_t left) {
    if (form->length > left) return 0;
    for (int i = 0; i < form->part_count; i++) {
        const Part *part = &form->parts[i];
        if (memcmp(item, part->fixed, part->fixed_length) != 0) return 0;
        item += part->fixed_length + part->input_length;
    }
    return 1;
}

/* The form of the item; it moves to the head of its bucket, so that the tail is what was used the longest time ago. */
static Form *form_find(Quick *quick, const char *item, size_t left) {
    if (left < ITEM_HEADER) return NULL;
    uint64_t version = load_u64(item + 8);
    Form **first = bucket_of(quick, version);
    for (Form **link = first; *link; link = &(*link)->next) {
        Form *form = *link;
        if (form->version != version || !form_matches(form, item, left)) continue;
        *link = form->next;
        form->next = *first;
        return *first = form;
    }
    return NULL;
}

/* Forgets forms of a version beyond the first `kept`. */
static void forms_trim(Quick *quick, uint64_t version, int kept) {
    Form **link = bucket_of(quick, version);
    while (*link) {
        Form *form = *link;
        if (form->version != version || kept-- > 0) {
            link = &form->next;
            continue;
        }
        *link = form->next;
        form_free(form);
    }
}

/* Remembers a RUN item, unless its form is known, of `length` bytes. Input i lies at item + starts[i], has lengths[i] bytes, and goes to targets[i], which
 * `arguments` keeps alive. Returns 0 when there is no memory. */
EXPORTED int quick_remember(Quick *quick, const char *item, size_t length, int inputs, const size_t *starts, const size_t *lengths,
                            char *const *targets, PyObject *call, PyObject *arguments, int outputs, int single) {
    if (form_find(quick, item, length)) return 1;
    Form *form = calloc(1, sizeof(*form) + (size_t)(inputs + 1) * sizeof(Part));
    if (!form) return 0;
    *form = (Form){.version = load_u64(item + 8), .length = length, .outputs = outputs, .single = single, .call = call,
                   .arguments = arguments};
    Py_IncRef(call);
    Py_IncRef(arguments);
    size_t at = 0;
    for (int i = 0; i <= inputs; i++) {
        Part *part = &form->parts[form->part_count++];
        part->fixed_length = (i < inputs ? starts[i] : length) - at;
        part->fixed = malloc(part->fixed_length + 1);
        if (!part->fixed) {
            form_free(form);
            return 0;
        }
        memcpy(part->fixed, item + at, part->fixed_length);
        if (i == inputs) break;
        part->input = targets[i];
        part->input_length = lengths[i];
        at = starts[i] + lengths[i];
    }
    form->next = *bucket_of(quick, form->version);
    *bucket_of(quick, form->version) = form;
    forms_trim(quick, form->version, FORMS_OF_A_VERSION);
    return 1;
}

EXPORTED void quick_forget(Quick *quick, uint64_t version) {
    forms_trim(quick, version, 0);
}

/* ---- Writing results ---- */

/* `length` more bytes of the answer, zeroed; NULL when there is no memory. */
static char *answer_extend(Quick *quick, size_t length) {
    if (quick->end + length > quick->answer_capacity) {
        size_t capacity = (quick->end + length) * 2;
        char *larger = realloc(quick->answer, capacity);
        if (!larger) return NULL;
        quick->answer = larger;
        quick->answer_capacity = capacity;
    }
    char *at = quick->answer + quick->end;
    memset(at, 0, length);
    quick->end += length;
    return at;
}

/* The wire's code of an element format of the buffer protocol; 0: it has none. */
static uint8_t type_code(const PyBuffer *view) {
    static const struct {
        char format;
        uint8_t code;
        uint8_t size;
    } types[] = {{'f', 1, 4}, {'d', 2, 8}, {'b', 3, 1}, {'h', 4, 2}, {'i', 5, 4}, {'l', 6, 8},
                 {'q', 6, 8}, {'B', 7, 1}, {'H', 8, 2}, {'?', 9, 1}};
    const char *format = view->format ? view->format : "B";
    if (format[0] == 0 || format[1] != 0) return 0;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].format == format[0] && types[i].size == view->item_size) return types[i].code;
    }
    return 0;
}

static int write_view(Quick *quick, const PyBuffer *view) {
    uint8_t code = type_code(view);
    size_t length = (size_t)view->length;
    if (!code || length >= OUTPUT_MAX || view->ndim > 64) return 0;
    size_t dims = 8 * (size_t)view->ndim;
    char *at = answer_extend(quick, TENSOR_HEADER + dims + ((length + 7) & ~(size_t)7));
    if (!at) return 0;
    uint64_t bytes = length;
    at[0] = (char)code;
    at[1] = (char)view->ndim;
    memcpy(at + 16, &bytes, 8);
    for (int i = 0; i < view->ndim; i++) {
        int64_t dim = view->shape[i];
        memcpy(at + TENSOR_HEADER + 8 * i, &dim, 8);
    }
    if (length) memcpy(at + TENSOR_HEADER + dims, view->data, length);
    return 1;
}

/* Appends an output as a tensor; 0, perhaps with an error set, when it is none that is simple. */
static int write_output(Quick *quick, PyObject *output) {
    PyBuffer view;
    PyObject *exporter = output;
    if (quick->bytes_of) {
        exporter = PyObject_CallFunctionObjArgs(quick->bytes_of, output, NULL);
        if (!exporter) return 0;
    }
    int written = 0;
    if (PyObject_GetBuffer(exporter, &view, PYBUF_CONTIGUOUS) == 0) {
        written = write_view(quick, &view);
        PyBuffer_Release(&view);
    }
    if (quick->bytes_of) Py_DecRef(exporter);
    return written;
}

static int write_outputs(Quick *quick, const Form *form, PyObject *result) {
    if (form->single) return write_output(quick, result);
    if (PySequence_Size(result) != form->outputs) return 0;
    for (int i = 0; i < form->outputs; i++) {
        PyObject *output = PySequence_GetItem(result, i);
        if (!output) return 0;
        int written = write_output(quick, output);
        Py_DecRef(output);
        if (!written) return 0;
    }
    return 1;
}

/* ---- Running ---- */

typedef enum Outcome { ANSWERED, RAISED, NOT_SIMPLE } Outcome;

/* An exception that is set now and is no failure of the run, such as a signal handler's. */
static int interrupted(void) {
    return PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception);
}

static Outcome run_item(Quick *quick, const Form *form, const char *item) {
    int64_t started = now_ns();
    for (int i = 0; i < form->part_count; i++) {
        const Part *part = &form->parts[i];
        item += part->fixed_length;
        if (part->input_length) memcpy(part->input, item, part->input_length);
        item += part->input_length;
    }
    size_t header = quick->end;
    if (!answer_extend(quick, RESULT_HEADER)) return RAISED;
    PyObject *result = PyObject_Call(form->call, form->arguments, NULL);
    if (!result) return RAISED;
    int written = write_outputs(quick, form, result);
    Py_DecRef(result);
    if (!written) return NOT_SIMPLE;
    uint64_t us = (uint64_t)(now_ns() - started) / 1000;
    int32_t outputs = form->outputs;
    if (us < 1) us = 1;
    memcpy(quick->answer + header + 8, &us, 8);
    memcpy(quick->answer + header + 16, &outputs, 4);
    return ANSWERED;
}

/* Works on a unit. Returns 0 when it must be left to the Python loop, or was interrupted. */
static int run_unit(Quick *quick, const char *frame, size_t length) {
    static Form *forms[ITEMS_MAX];
    if (length < UNIT_HEADER || load_u64(frame + 16) != 0) return 0;
    uint32_t count = load_u32(frame + 8);
    if (count < 1 || count > ITEMS_MAX) return 0;
    size_t at = UNIT_HEADER;
    for (uint32_t i = 0; i < count; i++) {
        forms[i] = form_find(quick, frame + at, length - at);
        if (!forms[i] || forms[i]->refused) return 0;
        at += forms[i]->length;
    }
    if (at != length) return 0;
    quick->callers = load_u32(frame + 12);
    quick->end = COMMAND_ROOM;
    char *header = answer_extend(quick, RESULTS_HEADER);
    if (!header) return 0;
    memcpy(header, frame, 8);
    memcpy(header + 8, &count, 4);
    at = UNIT_HEADER;
    for (uint32_t i = 0; i < count; i++) {
        Outcome outcome = run_item(quick, forms[i], frame + at);
        if (outcome != ANSWERED) {
            if (!interrupted()) PyErr_Clear();
            forms[i]->refused = outcome == NOT_SIMPLE;
            return 0;
        }
        at += forms[i]->length;
    }
    return 1;
}

/* ---- The mailbox ---- */

/* Looks into the mailbox for a moment; returns whether a unit was posted. */
static int mail_arrived(Mailbox *mailbox) {
    for (int i = 0; mailbox && i < LOOKS; i++) {
        uint32_t state = mail_state(mailbox);
        if (state == MAIL_POSTED) return 1;
        if (state == MAIL_IDLE || state == MAIL_ABANDONED) mail_change(mailbox, state, MAIL_LISTENING);
        mail_breathe();
    }
    return 0;
}

/* Nobody looks into the mailbox from now on. Returns 0 when a unit was posted before that. */
static int mail_leave(Mailbox *mailbox) {
    if (!mailbox) return 1;
    mail_change(mailbox, MAIL_LISTENING, MAIL_IDLE);
    return mail_state(mailbox) != MAIL_POSTED;
}

/* Works on the posted unit. What cannot be answered here comes through the socket. */
static void answer_mail(Quick *quick) {
    Mailbox *mailbox = quick->mailbox;
    uint32_t length = mailbox->request_length;
    uint32_t end = MAIL_REFUSED;
    if (length <= MAILBOX_ROOM && run_unit(quick, mailbox->request, length)) {
        size_t answered = quick->end - COMMAND_ROOM;
        if (answered <= MAILBOX_ROOM) {
            memcpy(mailbox->response, quick->answer + COMMAND_ROOM, answered);
            mailbox->response_length = (uint32_t)answered;
            end = MAIL_DONE;
        }
    }
    if (!mail_change(mailbox, MAIL_POSTED, end)) mail_change(mailbox, MAIL_ABANDONED, MAIL_IDLE);
}

/* ---- The socket ---- */

/* Looks at the socket until something arrives or the time for it is over. Returns what recv returned, -1 with EAGAIN for nothing. */
static ssize_t poll_socket(Quick *quick, char *target, size_t room) {
    if (quick->callers >= quick->cores) {
        errno = EAGAIN;
        return -1;
    }
    if (quick->pause > 0) {
        quick->pause--;
        errno = EAGAIN;
        return -1;
    }
    int displaced = 0;
    ssize_t count;
    int64_t looked = now_ns(), until = looked + quick->poll_ns;
    for (;;) {
        if (mail_arrived(quick->mailbox)) return MAIL;
        count = recv(quick->fd, target, room, MSG_DONTWAIT);
        if (count >= 0 || errno != EAGAIN) break;
        int64_t now = now_ns();
        if (now - looked > DISPLACED_NS) displaced = 1;
        looked = now;
        if (now >= until) break;
    }
    int error = errno;
    quick->crowded = displaced ? quick->crowded + 1 : quick->crowded > 0 ? quick->crowded - 1 : 0;
    if (quick->crowded > CROWDED_AFTER) {
        quick->crowded = 0;
        quick->pause = PAUSE;
    }
    errno = error;
    return count;
}

/* Waits for input by poll: who sleeps in recv on a Unix socket is woken too when the other side has read what was sent before. */
static ssize_t sleep_on_socket(Quick *quick, char *target, size_t room) {
    struct pollfd input = {.fd = quick->fd, .events = POLLIN};
    if (poll(&input, 1, -1) < 0) return -1;
    return recv(quick->fd, target, room, 0);
}

/* More bytes behind the `have` that are there. Returns how many, 0 at the end of the stream, -errno after a failure; -EINTR with
 * an exception set when a signal's handler raised. */
static ssize_t receive(Quick *quick, size_t have) {
    char *target = quick->buffer + have;
    size_t room = quick->capacity - have;
    for (;;) {
        void *state = PyEval_SaveThread();
        ssize_t count = -1;
        errno = EAGAIN;
        if (quick->poll_ns > 0 && have == 0) count = poll_socket(quick, target, room);
        if (count != MAIL && !mail_leave(quick->mailbox) && count < 0) count = MAIL;
        if (count == -1 && errno == EAGAIN) count = sleep_on_socket(quick, target, room);
        int error = errno;
        PyEval_RestoreThread(state);
        if (count >= 0 || count == MAIL) return count;
        if (error != EINTR || PyErr_CheckSignals() != 0) return -error;
    }
}

static int send_all(Quick *quick, const char *data, size_t length) {
    while (length) {
        ssize_t sent = send(quick->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            void *state = PyEval_SaveThread();
            sent = send(quick->fd, data, length, MSG_NOSIGNAL);
            int error = errno;
            PyEval_RestoreThread(state);
            errno = error;
        }
        if (sent < 0) {
            if (errno == EINTR && PyErr_CheckSignals() == 0) continue;
            return -errno;
        }
        data += sent;
        length -= (size_t)sent;
    }
    return 0;
}

/* Sends the answer as one command: the words of NEXT stand right before the frame, wherever the frame's length makes them begin. */
static int send_answer(Quick *quick) {
    char words[32];
    size_t length = quick->end - COMMAND_ROOM;
    size_t words_length = (size_t)snprintf(words, sizeof(words), "$%zu\r\n", length);
    char *end = answer_extend(quick, 2);
    if (!end) return -ENOMEM;
    memcpy(end, "\r\n", 2);
    char *start = quick->answer + COMMAND_ROOM - words_length - quick->command_length;
    memcpy(start, quick->command, quick->command_length);
    memcpy(start + quick->command_length, words, words_length);
    return send_all(quick, start, (size_t)(quick->answer + quick->end - start));
}

/* The length of the frame when the bytes are the beginning of an array of one byte string; sets where it starts. 0: they are not,
 * -1: too few bytes to tell. */
static ssize_t frame_length(const char *buffer, size_t have, size_t *start) {
    static const char head[] = "*1\r\n$";
    size_t known = have < 5 ? have : 5;
    if (memcmp(buffer, head, known) != 0) return 0;
    size_t at = 5, length = 0;
    for (; at < have && buffer[at] >= '0' && buffer[at] <= '9' && at < 15; at++) length = length * 10 + (size_t)(buffer[at] - '0');
    if (at + 2 > have) return at < 15 ? -1 : 0;
    if (at == 5 || buffer[at] != '\r' || buffer[at + 1] != '\n') return 0;
    *start = at + 2;
    return (ssize_t)length;
}

/* Answers units until one arrives that it cannot answer. Returns the number of its bytes that are in the receive buffer, from the
 * buffer's start on; 0 when the server closed the connection; -errno when the connection failed, perhaps with an exception set. */
EXPORTED ssize_t quick_serve(Quick *quick) {
    size_t have = 0;
    for (;;) {
        size_t start = 0;
        ssize_t count = receive(quick, have);
        if (count == MAIL) {
            answer_mail(quick);
            if (interrupted()) return -EINTR;
            continue;
        }
        if (count <= 0) return count;
        have += (size_t)count;
        ssize_t length = frame_length(quick->buffer, have, &start);
        if (length < 0) continue;
        if (length == 0) return (ssize_t)have;
        size_t whole = start + (size_t)length + 2;
        if (whole > quick->capacity || whole < have) return (ssize_t)have;
        if (whole > have) continue;
        if (!run_unit(quick, quick->buffer + start, (size_t)length)) return interrupted() ? -EINTR : (ssize_t)have;
        int error = send_answer(quick);
        if (error) return error;
        have = 0;
    }
}

/* ---- Making and ending it ---- */

/* Answers what is posted in a mailbox too, while it polls. It must outlive this. */
EXPORTED void quick_listen(Quick *quick, void *mailbox) {
    quick->mailbox = quick->poll_ns > 0 ? mailbox : NULL;
}

EXPORTED void quick_free(Quick *quick) {
    for (int i = 0; i < BUCKETS; i++) {
        while (quick->forms[i]) {
            Form *form = quick->forms[i];
            quick->forms[i] = form->next;
            form_free(form);
        }
    }
    if (quick->bytes_of) Py_DecRef(quick->bytes_of);
    free(quick->command);
    free(quick->answer);
    free(quick);
}

/* How many this process may use. */
static uint32_t cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

/* Arguments: a connected socket; its receive buffer, which must outlive this; the words of the command before the frame; how long to poll
 * before sleeping; what makes an object with a buffer of an output, ignored when outputs have one themselves. Returns NULL when there is no memory, or the words are too long. */
EXPORTED Quick *quick_create(int fd, char *buffer, size_t capacity, const char *command, size_t command_length, int64_t poll_ns,
                             PyObject *bytes_of, int has_buffers) {
    Quick *quick = command_length + 32 < COMMAND_ROOM ? calloc(1, sizeof(*quick)) : NULL;
    if (!quick) return NULL;
    quick->fd = fd;
    quick->buffer = buffer;
    quick->capacity = capacity;
    quick->poll_ns = poll_ns;
    quick->cores = cores();
    quick->command_length = command_length;
    quick->command = malloc(command_length);
    if (!has_buffers) {
        quick->bytes_of = bytes_of;
        Py_IncRef(bytes_of);
    }
    if (!quick->command) {
        quick_free(quick);
        return NULL;
    }
    memcpy(quick->command, command, command_length);
    return quick;
}
