/* The server frees values on a thread of its own after FLUSHALL ASYNC and UNLINK. What a value lets go of then may belong to the
 * main thread: lists of this module, and the server's strings, whose reference counts are not atomic. Such work is put on a
 * stack without locks, which the main thread empties ten times a second. */
#include "later.h"

#include <pthread.h>
#include <stdatomic.h>

#include "api.h"

typedef struct Work {
    struct Work *next;
    void (*function)(void *);
    void *value;
} Work;

static pthread_t main_thread;
static _Atomic(Work *) left;

void later_begin(void) {
    main_thread = pthread_self();
}

void later(void (*function)(void *), void *value) {
    if (pthread_equal(pthread_self(), main_thread)) {
        function(value);
        return;
    }
    Work *work = server.Alloc(sizeof(*work));
    *work = (Work){.next = atomic_load(&left), .function = function, .value = value};
    while (!atomic_compare_exchange_weak(&left, &work->next, work)) {
    }
}

void later_run(void) {
    Work *work = atomic_exchange(&left, NULL);
    while (work) {
        Work *next = work->next;
        work->function(work->value);
        server.Free(work);
        work = next;
    }
}
