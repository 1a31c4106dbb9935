/* The memory of a mailbox, which a server and an inference worker share, and how its state changes: mailbox.c says what the states mean
 * and who sets them. Both programs include this file; a worker that was built with another one would read nonsense. */
#ifndef TASKENSEMBLE_AI_MAILBOX_MEMORY_H
#define TASKENSEMBLE_AI_MAILBOX_MEMORY_H

#include <stdint.h>

enum { MAILBOX_ROOM = 24 * 1024 };
enum { MAIL_IDLE, MAIL_LISTENING, MAIL_POSTED, MAIL_DONE, MAIL_REFUSED, MAIL_ABANDONED };

/* From offset 0. */
typedef struct Mailbox {
    uint32_t state;
    uint32_t request_length;
    uint32_t response_length;
    char unused[52];
    char request[MAILBOX_ROOM];
    char response[MAILBOX_ROOM];
} Mailbox;

static inline uint32_t mail_state(const Mailbox *mailbox) {
    return __atomic_load_n(&mailbox->state, __ATOMIC_ACQUIRE);
}

/* Returns whether it was `from`, and is `to` now. */
static inline int mail_change(Mailbox *mailbox, uint32_t from, uint32_t to) {
    return __atomic_compare_exchange_n(&mailbox->state, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Between two looks: lets the other thread of the core run. */
static inline void mail_breathe(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
