/* Mailboxes.
 *
 * To block a caller, wake a worker, be woken by it and unblock the caller costs a server some 15 us of processor time and two
 * sleeps; a small model takes 7. So where a worker is polling anyway, the module writes such a run into memory that both share, and
 * looks at it until the answer is there: the server is kept no longer than by the longer way. It is tried only when nothing
 * waits, for models that are known to be quick and loaded, with small tensors, and never longer than WAIT_US and twice
 * the model's typical time.
 *
 * Nothing depends on it. The worker's NEXT stays blocked meanwhile; a run that is not answered in time, or refused, goes the usual way as
 * if nothing had happened, and so does one whose worker dies. It may then be computed twice: workers answer here only for
 * models without a state. A worker that does not answer in time has lost its core, so it is left alone for a while, each time longer.
 *
 * States: IDLE -> LISTENING (the worker polls) -> POSTED (server) -> DONE or REFUSED (worker) -> IDLE (server); the server gives up by
 * POSTED -> ABANDONED, which the worker makes IDLE when it is through; before it sleeps the worker goes from LISTENING to IDLE. Each is a
 * compare and exchange, so one side wins. */
#define _GNU_SOURCE
#include "mailbox.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm.h"
#include "worker.h"

enum { QUICK_US = 40, WAIT_US = 20, LARGE = 16 * 1024, FIRST_PAUSE = 64, LONGEST_PAUSE = 16 * 1024 };

int mailbox_open(Worker *worker) {
    if (worker->mailbox) return worker->mailbox_fd;
    int fd = sealed_memory(sizeof(Mailbox));
    if (fd < 0) return -1;
    void *base = mmap(NULL, sizeof(Mailbox), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        close(fd);
        return -1;
    }
    madvise(base, sizeof(Mailbox), MADV_DONTFORK);
    worker->mailbox = base;
    worker->mailbox_fd = fd;
    worker->mailbox_patience = FIRST_PAUSE;
    return fd;
}

void mailbox_close(Worker *worker) {
    if (!worker->mailbox) return;
    munmap(worker->mailbox, sizeof(Mailbox));
    close(worker->mailbox_fd);
    worker->mailbox = NULL;
}

/* Whether the run is one that is worth waiting for. */
static int is_small(const Step *step) {
    const Asset *asset = step->asset;
    if (step->style != STYLE_MODEL || asset->typical_us < 1 || asset->typical_us > QUICK_US || asset->min_batch_size > 1) return 0;
    size_t length = 0;
    for (int i = 0; i < step->input_count; i++) length += step->inputs[i].tensor->length;
    return length < LARGE;
}

/* An idle worker that listens and has the asset. */
static Worker *listener(const Lane *lane, const Asset *asset) {
    for (Worker *worker = lane->idle; worker; worker = worker->idle_next) {
        if (!worker->mailbox || worker->forget_count || !asset_is_loaded(asset, worker->slot)) continue;
        if (mail_state(worker->mailbox) != MAIL_LISTENING) continue;
        if (worker->mailbox_pause == 0) return worker;
        worker->mailbox_pause--;
    }
    return NULL;
}

/* Posts the worker's unit and waits. Returns whether it was answered. */
static int exchange(Worker *worker, int64_t typical_us) {
    Mailbox *mailbox = worker->mailbox;
    const Bytes *frame = &worker->unit.frame;
    memcpy(mailbox->request, frame->data, frame->length);
    mailbox->request_length = (uint32_t)frame->length;
    if (!mail_change(mailbox, MAIL_LISTENING, MAIL_POSTED)) return 0;
    int64_t until = now_us() + 2 * typical_us + WAIT_US;
    uint32_t state;
    while ((state = mail_state(mailbox)) == MAIL_POSTED) {
        if (now_us() > until) {
            if (mail_change(mailbox, MAIL_POSTED, MAIL_ABANDONED)) {
                worker->mailbox_pause = worker->mailbox_patience;
                if (worker->mailbox_patience < LONGEST_PAUSE) worker->mailbox_patience *= 2;
                return 0;
            }
            continue;
        }
        for (int i = 0; i < 8; i++) mail_breathe();
    }
    return state == MAIL_DONE;
}

/* Takes the answer out of the shared memory before it is read, and finishes the unit's job with it. */
static int take_answer(Worker *worker) {
    static char answer[MAILBOX_ROOM];
    Mailbox *mailbox = worker->mailbox;
    size_t length = mailbox->response_length;
    if (length > sizeof(answer)) return 0;
    memcpy(answer, mailbox->response, length);
    return unit_accept_frame(worker, answer, length);
}

int mailbox_run(Request *request) {
    Step *step = request_only_run(request);
    if (!step || !is_small(step)) return 0;
    Lane *lane = lane_of_asset(step->asset);
    Worker *worker = lane->waiting ? NULL : listener(lane, step->asset);
    if (!worker) return 0;
    Job *job = job_of_run(request, step);
    job->queued_us = now_us();
    int64_t typical_us = step->asset->typical_us;
    unit_compose_job(worker, job);
    int fits = worker->unit.frame.length <= MAILBOX_ROOM && worker->unit.element_count == 0;
    int answered = fits && exchange(worker, typical_us) && take_answer(worker);
    uint32_t state = mail_state(worker->mailbox);
    if (state == MAIL_DONE || state == MAIL_REFUSED) mail_change(worker->mailbox, state, MAIL_IDLE);
    if (answered) {
        worker->units++;
        worker->mailbox_runs++;
        worker->mailbox_patience = FIRST_PAUSE;
        return 1;
    }
    unit_clear(&worker->unit);
    job_withdraw(job);
    return 0;
}
