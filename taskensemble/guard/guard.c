/* te-guard: the small process that starts programs and makes sure that they end.
 *
 *   te-guard tie <pid> [--grace <seconds>] [--restart] -- program arguments…
 *       Runs one program. When process <pid> (0: no process) ends, or the guard gets SIGTERM, the program gets SIGTERM, so that it can end
 *       its own in order; what it leaves behind gets it then; after the grace period the whole tree gets SIGKILL. Exits
 *       with the program's status. --restart: a program that a signal killed is started again.
 *   te-guard serve <fd> [--ends <file>] [-- epitaph arguments…]
 *       Runs members for the worker at the other end of the socket <fd>. When the worker dies, everything is ended and the
 *       epitaph is executed, which tells the record store. Frames are described at `serve_frame`. In the file it notes how
 *       each member ended, until the worker says that the record has it (see `struct note`).
 *
 * How a tree is found. The guard is a subreaper, so whatever a member starts stays below it, daemons included. A process below
 * the guard belongs to a member if the member's leader is among its ancestors, or it is in the leader's session or process
 * group, or it has the member's mark (see `mark_of_attempt`), or its environment carries the member's TASKENSEMBLE_ATTEMPT_ID.
 * A member has ended when its leader has and nothing of its tree is left; what a leader leaves behind gets SIGTERM, then SIGKILL.
 *
 * Members are started with vfork: the guard stays small, so that a start costs little whatever the worker's size, and learns of
 * a failed exec at once. Time is CLOCK_BOOTTIME: a suspended node finds its members overdue when it wakes. One thread, no locks.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

extern char **environ;

/* Why a member was ended; the Python client knows the same numbers. */
enum why { RUNS = -1, WHY_ITSELF = 0, WHY_ASKED = 1, WHY_WALLTIME = 2, WHY_MEMORY = 3, WHY_SILENCE = 4 };

/* Where a start failed. */
enum stage { STAGE_FORK = 1, STAGE_FOLDER = 2, STAGE_OUTPUT = 3, STAGE_PROGRAM = 4, STAGE_REFUSED = 5 };

/* Output that is kept only up to a limit goes through a pipe; `kept` bytes are in the file. */
struct stream {
    int pipe, file;
    uint64_t kept;
};

struct member {
    uint64_t id;
    ptrdiff_t note;      /* index of its note; -1: there is none */
    pid_t pid;           /* the leader; its session and process group have the same number */
    bool ended;          /* the leader has been reaped */
    bool warned, killed; /* SIGUSR1, SIGKILL have been sent */
    bool ending;         /* SIGTERM has been sent to the tree, or to the leader */
    bool leader_first;   /* the leader ends what it has started; the rest of the tree is asked once it is gone */
    int status;
    enum why why;
    double started, stopped, walltime, warn_before, grace, asked_at, kill_at;
    uint64_t memory, output_limit;
    double user, system;
    uint64_t peak;
    char *attempt; /* the whole entry TASKENSEMBLE_ATTEMPT_ID=… */
    uint64_t mark; /* of the attempt; 0: none */
    struct stream streams[2];
};

/* Which process a member's leader is, for the worker when the guard has died before it told; and how it has ended, for whoever
 * finds this file when worker and guard are dead. The end is written before the leader is reaped; the note lies in pages that
 * outlive every process, and is cleared when the worker says that the record has the end. The guard, and the
 * epitaph after it, hold a lock (flock) on the file: without it nobody will write here again. Fields in host order. */
struct note {
    uint64_t id; /* 0: free; written last */
    double ran;
    int32_t status, why; /* why, written after status and ran: one of the numbers above, or RUNS */
    int64_t pid;
};

struct environment {
    uint32_t key;
    char *block; /* owned; `entries` point into it */
    char **entries;
    size_t count;
};

struct buffer {
    unsigned char *bytes;
    size_t used, size;
};

static struct member *members;
static size_t member_count, member_size;
static struct environment *environments;
static size_t environment_count;
static struct buffer incoming, outgoing;
static int control = -1;
static double silent_after, silence, hurry; /* when the worker counts as hung; how long it may be silent; grace then */
static bool closing;                        /* the worker is gone or wants the guard to end */
static bool clean;                          /* it said so */
static sigset_t former_mask;
static int notes_file = -1;
static struct note *notes;
static size_t note_count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *must(void *pointer) {
    if (pointer == NULL) {
        fprintf(stderr, "te-guard: out of memory\n");
        _exit(70);
    }
    return pointer;
}

static void append(struct buffer *buffer, const void *bytes, size_t count) {
    if (buffer->used + count > buffer->size) {
        buffer->size = (buffer->used + count) * 2;
        buffer->bytes = must(realloc(buffer->bytes, buffer->size));
    }
    memcpy(buffer->bytes + buffer->used, bytes, count);
    buffer->used += count;
}

/* ---- Frames to the worker: u32 length of what follows, u8 kind, fields in host order ---- */

/* Starts wait a moment for company: a member that ends meanwhile then costs the worker one awakening instead of two. */
static double unhurried; /* until when what is to be sent may wait; 0: it may not */
static const double moment = 0.05;

static void send_frame(unsigned char kind, const void *fields, uint32_t count) {
    uint32_t length = count + 1;
    if (kind != 's') unhurried = 0;
    else if (outgoing.used == 0) unhurried = now() + moment;
    append(&outgoing, &length, sizeof length);
    append(&outgoing, &kind, 1);
    append(&outgoing, fields, count);
}

/* Sends what waits no longer; true when the worker has no room for all of it now. */
static bool flush_frames(void) {
    size_t sent = 0;
    if (outgoing.used == 0 || (unhurried > 0 && now() < unhurried)) return false;
    while (control >= 0 && sent < outgoing.used) {
        ssize_t n = send(control, outgoing.bytes + sent, outgoing.used - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        sent += (size_t)n;
    }
    memmove(outgoing.bytes, outgoing.bytes + sent, outgoing.used - sent);
    outgoing.used -= sent;
    return outgoing.used > 0;
}

static void report_start(const struct member *m) {
    struct __attribute__((packed)) {
        uint64_t id;
        int32_t pid;
    } fields = {m->id, m->pid};
    send_frame('s', &fields, sizeof fields);
}

static void report_failure(uint64_t id, int error, enum stage stage) {
    struct __attribute__((packed)) {
        uint64_t id;
        int32_t error, stage;
    } fields = {id, error, (int32_t)stage};
    send_frame('f', &fields, sizeof fields);
}

static void report_end(const struct member *m) {
    struct __attribute__((packed)) {
        uint64_t id;
        int32_t pid, status, why;
        double ran, user, system;
        uint64_t peak;
    } fields = {m->id, m->pid, m->status, (int32_t)m->why, m->stopped - m->started, m->user, m->system, m->peak};
    send_frame('x', &fields, sizeof fields);
}

/* ---- Notes of ends ---- */

enum { NOTES_AT_FIRST = 512 };

static bool map_notes(size_t count) {
    size_t size = count * sizeof *notes;
    if (ftruncate(notes_file, (off_t)size) < 0) return false;
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, notes_file, 0);
    if (mapped == MAP_FAILED) return false;
    if (notes != NULL) munmap(notes, note_count * sizeof *notes);
    notes = mapped;
    note_count = count;
    return true;
}

/* What an earlier guard of the same worker has noted there stays. */
static void open_notes(const char *path) {
    struct stat facts;
    notes_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (notes_file < 0 || flock(notes_file, LOCK_EX) < 0 || fstat(notes_file, &facts) < 0) {
        fprintf(stderr, "te-guard: ends cannot be noted in %s: %s\n", path, strerror(errno));
        return;
    }
    size_t there = (size_t)facts.st_size / sizeof *notes;
    if (!map_notes(there < NOTES_AT_FIRST ? NOTES_AT_FIRST : there))
        fprintf(stderr, "te-guard: ends cannot be noted in %s: %s\n", path, strerror(errno));
}

/* The index of the member's note, or -1 when there is no room. */
static ptrdiff_t note_start(uint64_t id, pid_t pid) {
    static size_t next;
    if (notes == NULL) return -1;
    for (size_t tried = 0; notes[next].id != 0; next = (next + 1) % note_count)
        if (tried++ == note_count) {
            next = note_count;
            if (!map_notes(2 * note_count)) {
                next = 0;
                return -1;
            }
        }
    struct note *note = &notes[next];
    note->why = RUNS;
    note->pid = pid;
    __atomic_store_n(&note->id, id, __ATOMIC_RELEASE);
    return (ptrdiff_t)next;
}

static void note_end(ptrdiff_t at, int status, enum why why, double ran) {
    if (at < 0) return;
    struct note *note = &notes[at];
    note->ran = ran;
    note->status = status;
    __atomic_store_n(&note->why, (int32_t)why, __ATOMIC_RELEASE);
}

static void forget_end(uint64_t id) {
    for (size_t i = 0; i < note_count; i++)
        if (notes[i].id == id) notes[i].id = 0;
}

static bool nothing_noted(void) {
    for (size_t i = 0; i < note_count; i++)
        if (notes[i].id != 0) return false;
    return true;
}

/* ---- Trees ---- */

struct process {
    pid_t pid, parent, group, session;
    uint64_t resident;  /* pages */
    double started;     /* on the guard's clock */
    struct member *owner;
    bool below;         /* a descendant of the guard */
    bool alive;
};

static bool read_process(pid_t pid, struct process *p) {
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    char *rest = strrchr(text, ')'); /* the name before it may hold anything */
    if (rest == NULL) return false;
    char state;
    int parent, group, session;
    long resident = 0;
    double started = 0;
    if (sscanf(rest + 1, " %c %d %d %d", &state, &parent, &group, &session) != 4) return false;
    char *field = rest + 2;
    for (int i = 0; i < 19 && field != NULL; i++) field = strchr(field + 1, ' ');
    if (field != NULL) {
        started = (double)atoll(field + 1) / (double)sysconf(_SC_CLK_TCK);
        for (int i = 0; i < 2 && field != NULL; i++) field = strchr(field + 1, ' ');
    }
    if (field != NULL) resident = atol(field + 1);
    *p = (struct process){.pid = pid, .parent = parent, .group = group, .session = session, .started = started};
    p->resident = resident > 0 ? (uint64_t)resident : 0;
    p->alive = state != 'Z' && state != 'X';
    return true;
}

/* Whether a process is past its last instruction: what it is told now no longer changes how it ends. */
static bool is_exiting(pid_t pid) {
    char path[40], text[1024];
    unsigned flags = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    char *rest = strrchr(text, ')'), state = 0;
    if (rest == NULL || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2) return false;
    return state == 'Z' || (flags & 4) != 0; /* PF_EXITING */
}

static bool has_environment(pid_t pid, const char *entry) {
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    struct buffer text = {0};
    char part[8192];
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) > 0) append(&text, part, (size_t)n);
    close(fd);
    append(&text, "", 1);
    bool found = false;
    for (size_t at = 0; at < text.used && !found; at += strlen((char *)text.bytes + at) + 1)
        found = strcmp((char *)text.bytes + at, entry) == 0;
    free(text.bytes);
    return found;
}

/* The mark of an attempt, which all that its program starts inherits, through fork, exec, setsid and an emptied environment: its
 * soft limit of file locks, a resource that Linux has not looked at since 2.4.25. FNV-1a of the entry; workers/process.py computes
 * the same. */
static uint64_t mark_of_attempt(const char *entry) {
    uint64_t mark = 14695981039346656037u;
    for (; *entry != 0; entry++) mark = (mark ^ (unsigned char)*entry) * 1099511628211u;
    return mark >> 1; /* all ones would mean no limit */
}

static bool has_mark(pid_t pid, uint64_t mark) {
    struct rlimit found;
    return mark != 0 && prlimit(pid, RLIMIT_LOCKS, NULL, &found) == 0 && found.rlim_cur == mark;
}

static struct process *find_process(struct process *all, size_t count, pid_t pid) {
    for (size_t i = 0; i < count; i++)
        if (all[i].pid == pid) return &all[i];
    return NULL;
}

/* All living processes below the guard, each with the member that it belongs to. The caller frees the array. */
static struct process *scan(size_t *found) {
    struct process *all = NULL;
    size_t count = 0, size = 0;
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        pid_t pid = (pid_t)atol(entry->d_name);
        if (pid <= 0) continue;
        if (count == size) all = must(realloc(all, (size = size * 2 + 256) * sizeof *all));
        if (read_process(pid, &all[count])) count++;
    }
    if (folder != NULL) closedir(folder);
    pid_t self = getpid();
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < count; i++) {
            struct process *p = &all[i], *parent;
            if (p->below) continue;
            if (p->parent != self && ((parent = find_process(all, count, p->parent)) == NULL || !parent->below)) continue;
            p->below = changed = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct process *p = &all[i];
        if (!p->below || !p->alive) continue;
        for (struct process *up = p; up != NULL && p->owner == NULL; up = find_process(all, count, up->parent)) {
            for (size_t j = 0; j < member_count && p->owner == NULL; j++)
                if (up->session == members[j].pid || up->group == members[j].pid || up->pid == members[j].pid) p->owner = &members[j];
            if (up->parent == self) break;
        }
        for (size_t j = 0; j < member_count && p->owner == NULL; j++)
            if (has_mark(p->pid, members[j].mark)) p->owner = &members[j];
        for (size_t j = 0; j < member_count && p->owner == NULL; j++)
            if (members[j].attempt != NULL && has_environment(p->pid, members[j].attempt)) p->owner = &members[j];
    }
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (all[i].below && all[i].alive) all[kept++] = all[i];
    *found = kept;
    return all;
}

/* Signals the processes of a member's tree that began after `since`; how many there were. */
static size_t signal_tree(const struct member *m, int signal_number, double since) {
    size_t count, hit = 0;
    struct process *all = scan(&count);
    for (size_t i = 0; i < count; i++)
        if (all[i].owner == m && all[i].started >= since && kill(all[i].pid, signal_number) == 0) hit++;
    free(all);
    return hit;
}

/* Whether the guard has children that lead no member: orphans that it took in. Costs one small file. */
static bool has_orphans(void) {
    static char path[64];
    if (path[0] == 0) snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return true;
    char text[65536];
    size_t leaders = 0, children = 0;
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    if (n < 0 || n == (ssize_t)sizeof text) return true;
    for (ssize_t i = 0; i < n; i++) children += text[i] == ' ';
    for (size_t i = 0; i < member_count; i++) leaders += !members[i].ended;
    return children > leaders;
}

static bool has_leftovers(const struct member *m, bool orphans) {
    if (kill(-m->pid, 0) == 0 || errno == EPERM) return true;
    return orphans && signal_tree(m, 0, 0) > 0;
}

/* ---- Ending ---- */

static void end_member(struct member *m, enum why why, double grace) {
    double kill_at = now() + grace;
    if (!m->ending) {
        m->ending = true;
        if (!m->ended && !is_exiting(m->pid)) m->why = why;
        m->kill_at = kill_at;
        if (m->leader_first && !m->ended) {
            m->asked_at = 0;
            kill(m->pid, SIGTERM);
            kill(m->pid, SIGCONT);
            return;
        }
        m->asked_at = now();
        signal_tree(m, SIGTERM, 0);
        signal_tree(m, SIGCONT, 0); /* a stopped process cannot act on SIGTERM */
    } else if (kill_at < m->kill_at) {
        m->kill_at = kill_at;
    }
}

static void close_stream(struct stream *s) {
    if (s->pipe >= 0) close(s->pipe);
    if (s->file >= 0) close(s->file);
    s->pipe = s->file = -1;
}

/* Moves what the pipe holds into the file, up to the member's limit; the rest is read and dropped. At most as much as a pipe can
 * hold: a member that writes without end must not keep the guard from the others, and from the time. */
static void drain_stream(struct member *m, struct stream *s) {
    char part[65536];
    for (int parts = 0; parts < 16 && s->pipe >= 0; parts++) {
        ssize_t n = read(s->pipe, part, sizeof part);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            close_stream(s);
            return;
        }
        uint64_t room = m->output_limit - s->kept;
        size_t keep = (uint64_t)n < room ? (size_t)n : (size_t)room;
        if (keep > 0 && write(s->file, part, keep) == (ssize_t)keep) s->kept += keep;
        if (s->kept == m->output_limit && keep > 0) {
            static const char note[] = "\n[taskensemble: output_limit reached, the rest is dropped]\n";
            if (write(s->file, note, sizeof note - 1) < 0) s->kept = m->output_limit;
        }
    }
}

static void release_member(size_t at) {
    struct member *m = &members[at];
    for (int i = 0; i < 2; i++) {
        drain_stream(m, &m->streams[i]);
        close_stream(&m->streams[i]);
    }
    free(m->attempt);
    members[at] = members[--member_count];
}

/* Reports the members of which nothing is left, and ends what ended leaders have left behind. */
static void settle(void) {
    bool orphans = false, known = false;
    for (size_t i = 0; i < member_count;) {
        struct member *m = &members[i];
        if (!m->ended) {
            i++;
            continue;
        }
        if (!known) {
            orphans = has_orphans();
            known = true;
        }
        if (!has_leftovers(m, orphans)) {
            report_end(m);
            release_member(i);
            continue;
        }
        if (!m->ending) end_member(m, m->why, m->grace);
        i++;
    }
}

static int status_of(const siginfo_t *info) {
    if (info->si_code == CLD_EXITED) return (info->si_status & 0xff) << 8;
    return info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

static void reap(void) {
    int status;
    struct rusage usage;
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) break;
        struct member *m = NULL;
        for (size_t i = 0; i < member_count && m == NULL; i++)
            if (members[i].pid == info.si_pid && !members[i].ended) m = &members[i];
        if (m != NULL) {
            m->stopped = now();
            note_end(m->note, status_of(&info), m->why, m->stopped - m->started);
        }
        if (wait4(info.si_pid, &status, WNOHANG, &usage) <= 0 || m == NULL) continue;
        m->ended = true;
        m->status = status;
        m->user = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6;
        m->system = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6;
        m->peak = (uint64_t)usage.ru_maxrss * 1024;
    }
    settle();
}

/* What time brings: warnings, walltimes, kills, memory, silence of the worker. Returns seconds until the next look. */
static double check_time(void) {
    static double memory_seen;
    double t = now(), next = 60;
    bool weigh = false;
    if (control >= 0 && silence > 0) {
        if (t >= silent_after)
            for (size_t i = 0; i < member_count; i++) end_member(&members[i], WHY_SILENCE, hurry);
        else if (silent_after - t < next)
            next = silent_after - t;
    }
    bool settling = false;
    for (size_t i = 0; i < member_count; i++) {
        struct member *m = &members[i];
        if (m->memory > 0 && !m->ended) weigh = true;
        if (!m->ended && !m->ending && m->walltime > 0) {
            double left = m->started + m->walltime - t, warn = left - m->warn_before;
            if (m->warn_before > 0 && !m->warned) {
                if (warn <= 0) {
                    m->warned = true;
                    kill(m->pid, SIGUSR1);
                } else if (warn < next) {
                    next = warn;
                }
            }
            if (left <= 0) end_member(m, WHY_WALLTIME, m->grace);
            else if (left < next) next = left;
        }
        if (m->ending) {
            settling = true;
            if (t >= m->kill_at) {
                m->killed = true;
                signal_tree(m, SIGKILL, 0);
                if (next > 0.02) next = 0.02;
            } else if (m->kill_at - t < next) {
                next = m->kill_at - t;
            }
            if (m->ended && !m->killed) {
                /* What a dying tree has started since is asked too. What is not the guard's own child ends without a SIGCHLD. */
                double since = m->asked_at - 0.05;
                m->asked_at = now();
                signal_tree(m, SIGTERM, since);
                if (next > 0.02) next = 0.02;
            }
        }
    }
    if (weigh) {
        if (t - memory_seen >= 0.5) {
            memory_seen = t;
            size_t count;
            uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
            struct process *all = scan(&count);
            for (size_t i = 0; i < member_count; i++) {
                uint64_t used = 0;
                for (size_t j = 0; j < count; j++)
                    if (all[j].owner == &members[i]) used += all[j].resident * page;
                if (members[i].memory > 0 && used > members[i].memory) {
                    end_member(&members[i], WHY_MEMORY, 0);
                    next = 0;
                }
            }
            free(all);
        }
        if (next > 0.5) next = 0.5;
    }
    if (settling) settle();
    return next < 0 ? 0 : next;
}

/* ---- Starting ---- */

struct start {
    char **argv, **envp;
    const char *folder, *out, *err;
    cpu_set_t cpus;
    bool pinned;
    int pipes[2]; /* write ends, or -1 */
    uint64_t mark;
    sigset_t mask;
};

/* Runs in the child, which shares the guard's memory until exec: it only makes system calls and writes to `failure`. */
static void become(const struct start *s, volatile int *failure, volatile enum stage *stage) {
    struct sigaction plain = {.sa_handler = SIG_DFL};
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (s->pinned) sched_setaffinity(0, sizeof s->cpus, &s->cpus);
    struct rlimit locks;
    if (s->mark != 0 && getrlimit(RLIMIT_LOCKS, &locks) == 0) {
        locks.rlim_cur = s->mark;
        setrlimit(RLIMIT_LOCKS, &locks);
    }
    *stage = STAGE_FOLDER;
    if (s->folder[0] != 0 && chdir(s->folder) < 0) goto failed;
    *stage = STAGE_OUTPUT;
    int in = open("/dev/null", O_RDONLY);
    if (in < 0 || dup2(in, 0) < 0) goto failed;
    if (in > 2) close(in);
    for (int i = 0; i < 2; i++) {
        int fd = s->pipes[i];
        const char *path = i == 0 ? s->out : s->err;
        if (fd < 0 && path[0] == 0) continue;
        if (fd < 0) fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd < 0 || dup2(fd, i + 1) < 0) goto failed;
    }
    *stage = STAGE_PROGRAM;
    sigaction(SIGPIPE, &plain, NULL);
    sigprocmask(SIG_SETMASK, &s->mask, NULL);
    execvp(s->argv[0], s->argv);
failed:
    *failure = errno;
    _exit(127);
}

/* Starts a program; its pid, or -1 with `failure` and `stage` set. */
static pid_t start(const struct start *s, int *failure, enum stage *stage) {
    volatile int error = 0;
    volatile enum stage where = STAGE_FORK;
    char **own = environ;
    environ = s->envp; /* execvp looks along the PATH of the member */
    pid_t pid = vfork();
    if (pid == 0) become(s, &error, &where);
    environ = own;
    if (pid > 0 && error != 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
        pid = -1;
    } else if (pid < 0) {
        error = errno;
    }
    *failure = error;
    *stage = where;
    return pid;
}

static struct member *new_member(uint64_t id) {
    if (member_count == member_size) members = must(realloc(members, (member_size = member_size * 2 + 64) * sizeof *members));
    struct member *m = &members[member_count];
    *m = (struct member){.id = id, .note = -1, .streams = {{-1, -1, 0}, {-1, -1, 0}}};
    return m;
}

/* ---- Frames from the worker ---- */

struct __attribute__((packed)) spawn_fields {
    uint64_t id, memory, output_limit;
    double walltime, warn_before, grace;
    uint32_t environment, argument_count, extra_count, cpu_count;
};

static const char *next_string(const char **at, const char *end) {
    const char *text = *at;
    size_t length = strnlen(text, (size_t)(end - text));
    if (text + length >= end) return NULL;
    *at = text + length + 1;
    return text;
}

static struct environment *find_environment(uint32_t key) {
    for (size_t i = 0; i < environment_count; i++)
        if (environments[i].key == key) return &environments[i];
    return NULL;
}

/* Whether one of the entries from `first` up to `end` sets the variable that `entry` sets. */
static bool names_same(char **first, char **end, const char *entry) {
    const char *equals = strchr(entry, '=');
    size_t length = equals == NULL ? strlen(entry) : (size_t)(equals - entry) + 1;
    for (char **other = first; other < end; other++)
        if (strncmp(*other, entry, length) == 0) return true;
    return false;
}

static void spawn(const unsigned char *bytes, size_t count) {
    struct spawn_fields f;
    if (count < sizeof f) return;
    memcpy(&f, bytes, sizeof f);
    const char *at = (const char *)bytes + sizeof f, *end = (const char *)bytes + count;
    struct start s = {.mask = former_mask, .pipes = {-1, -1}, .pinned = f.cpu_count > 0};
    struct environment *base = find_environment(f.environment);
    if ((size_t)(end - at) < f.cpu_count * sizeof(uint32_t) || base == NULL || f.argument_count == 0 || closing ||
        (silence > 0 && now() >= silent_after)) {
        report_failure(f.id, ECANCELED, STAGE_REFUSED);
        return;
    }
    CPU_ZERO(&s.cpus);
    for (uint32_t i = 0; i < f.cpu_count; i++, at += sizeof(uint32_t)) {
        uint32_t cpu;
        memcpy(&cpu, at, sizeof cpu);
        if (cpu < CPU_SETSIZE) CPU_SET(cpu, &s.cpus);
    }
    char **pointers = must(malloc((f.argument_count + base->count + f.extra_count + 2) * sizeof *pointers));
    char **slot = pointers;
    s.folder = next_string(&at, end);
    s.out = next_string(&at, end);
    s.err = next_string(&at, end);
    s.argv = slot;
    bool whole = s.err != NULL;
    const char *attempt = NULL;
    for (uint32_t i = 0; i < f.argument_count && whole; i++) whole = (*slot++ = (char *)next_string(&at, end)) != NULL;
    *slot++ = NULL;
    s.envp = slot;
    for (uint32_t i = 0; i < f.extra_count && whole; i++) {
        whole = (*slot = (char *)next_string(&at, end)) != NULL;
        if (whole && strncmp(*slot, "TASKENSEMBLE_ATTEMPT_ID=", 24) == 0) attempt = *slot;
        slot++;
    }
    char **extra_end = slot;
    for (size_t i = 0; i < base->count && whole; i++)
        if (!names_same(s.envp, extra_end, base->entries[i])) *slot++ = base->entries[i];
    *slot = NULL;
    if (!whole) {
        report_failure(f.id, EINVAL, STAGE_REFUSED);
        free(pointers);
        return;
    }
    s.mark = attempt == NULL ? 0 : mark_of_attempt(attempt);
    struct member *m = new_member(f.id);
    m->mark = s.mark;
    m->memory = f.memory;
    m->output_limit = f.output_limit;
    m->walltime = f.walltime;
    m->warn_before = f.warn_before;
    m->grace = f.grace;
    int failure = 0;
    enum stage stage = STAGE_OUTPUT;
    for (int i = 0; i < 2 && f.output_limit > 0 && failure == 0; i++) {
        int ends[2];
        const char *path = i == 0 ? s.out : s.err;
        m->streams[i].file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (m->streams[i].file < 0 || pipe2(ends, O_CLOEXEC) < 0) {
            failure = errno;
            break;
        }
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        m->streams[i].pipe = ends[0];
        s.pipes[i] = ends[1];
    }
    m->started = now();
    m->pid = failure == 0 ? start(&s, &failure, &stage) : -1;
    for (int i = 0; i < 2; i++)
        if (s.pipes[i] >= 0) close(s.pipes[i]);
    if (m->pid < 0) {
        for (int i = 0; i < 2; i++) close_stream(&m->streams[i]);
        report_failure(f.id, failure, stage);
    } else {
        if (attempt != NULL) m->attempt = must(strdup(attempt));
        member_count++;
        m->note = note_start(m->id, m->pid);
        report_start(m);
    }
    free(pointers);
}

static void set_environment(const unsigned char *bytes, size_t count) {
    uint32_t key;
    if (count < sizeof key) return;
    memcpy(&key, bytes, sizeof key);
    struct environment *e = find_environment(key);
    if (e == NULL) {
        environments = must(realloc(environments, (environment_count + 1) * sizeof *environments));
        e = &environments[environment_count++];
        *e = (struct environment){.key = key};
    }
    free(e->block);
    free(e->entries);
    size_t length = count - sizeof key;
    e->block = must(malloc(length + 1));
    memcpy(e->block, bytes + sizeof key, length);
    e->block[length] = 0;
    e->count = 0;
    for (size_t i = 0; i < length; i++) e->count += e->block[i] == 0;
    e->entries = must(malloc((e->count + 1) * sizeof *e->entries));
    size_t at = 0;
    for (size_t i = 0; i < e->count; i++, at += strlen(e->block + at) + 1) e->entries[i] = e->block + at;
}

/* Kinds of frames:
 *   'E' u32 key, NUL-ended entries           an environment that starts refer to
 *   'S' spawn_fields, u32 CPUs, then NUL-ended: folder, out, err, arguments, further environment entries
 *   'T' u64 id, double grace (negative: the member's own)    end a member
 *   'K' u64 id, i32 signal                   a signal to a member's leader
 *   'A' u64 id                               the record has the end of a member: its note may go
 *   'B' double silence, double hurry         the worker holds its leases: it may be silent for so long; grace if it is not heard
 *   'Q'                                      end everything and exit without the epitaph */
static void serve_frame(const unsigned char *bytes, size_t count) {
    const unsigned char *fields = bytes + 1;
    size_t length = count - 1;
    uint64_t id = 0;
    if (length >= sizeof id) memcpy(&id, fields, sizeof id);
    switch (bytes[0]) {
    case 'E':
        set_environment(fields, length);
        break;
    case 'S':
        spawn(fields, length);
        break;
    case 'T': {
        double grace;
        if (length < sizeof id + sizeof grace) break;
        memcpy(&grace, fields + sizeof id, sizeof grace);
        for (size_t i = 0; i < member_count; i++)
            if (members[i].id == id) end_member(&members[i], WHY_ASKED, grace < 0 ? members[i].grace : grace);
        break;
    }
    case 'K': {
        int32_t number;
        if (length < sizeof id + sizeof number) break;
        memcpy(&number, fields + sizeof id, sizeof number);
        for (size_t i = 0; i < member_count; i++)
            if (members[i].id == id && !members[i].ended) kill(members[i].pid, number);
        break;
    }
    case 'A':
        forget_end(id);
        break;
    case 'B':
        if (length < 2 * sizeof(double)) break;
        memcpy(&silence, fields, sizeof silence);
        memcpy(&hurry, fields + sizeof silence, sizeof hurry);
        silent_after = now() + silence;
        break;
    case 'Q':
        clean = closing = true;
        break;
    default:
        fprintf(stderr, "te-guard: a frame of unknown kind %d\n", bytes[0]);
    }
}

/* Reads what the worker has sent; false when the worker is gone. */
static bool read_frames(void) {
    unsigned char part[65536];
    for (;;) {
        ssize_t n = recv(control, part, sizeof part, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        if (n <= 0) return false;
        append(&incoming, part, (size_t)n);
        if (n < (ssize_t)sizeof part) break;
    }
    size_t at = 0;
    uint32_t length;
    while (incoming.used - at >= sizeof length) {
        memcpy(&length, incoming.bytes + at, sizeof length);
        if (incoming.used - at - sizeof length < length) break;
        if (length > 0) serve_frame(incoming.bytes + at + sizeof length, length);
        at += sizeof length + length;
    }
    memmove(incoming.bytes, incoming.bytes + at, incoming.used - at);
    incoming.used -= at;
    return true;
}

static void end_everything(double grace) {
    for (size_t i = 0; i < member_count; i++) end_member(&members[i], WHY_ASKED, members[i].grace < grace ? members[i].grace : grace);
}

/* Kills what belongs to no member any more: orphans that have cleaned their environment and left their session. */
static void sweep(void) {
    for (int round = 0; round < 50; round++) {
        size_t count;
        struct process *all = scan(&count);
        for (size_t i = 0; i < count; i++) kill(all[i].pid, SIGKILL);
        free(all);
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
        if (count == 0) return;
        struct timespec pause = {0, 10000000};
        nanosleep(&pause, NULL);
    }
}

static int watch_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, &former_mask);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Reads pending signals; true when one of them asks to end. SIGINT and SIGHUP come from a terminal and are not for us. */
static bool read_signals(int fd) {
    struct signalfd_siginfo infos[8];
    bool asked = false;
    ssize_t n;
    do {
        n = read(fd, infos, sizeof infos);
        for (size_t i = 0; n > 0 && i < (size_t)n / sizeof *infos; i++) asked |= infos[i].ssi_signo == SIGTERM;
    } while (n == sizeof infos);
    return asked;
}

static int serve(int fd, const char *ends, char **epitaph) {
    int signals = watch_signals();
    control = fd;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (ends != NULL) open_notes(ends);
    struct pollfd *polled = NULL;
    for (;;) {
        double next = check_time();
        bool full = flush_frames();
        if (closing && member_count == 0) break;
        if (outgoing.used > 0 && !full && unhurried - now() < next) next = unhurried - now();
        polled = must(realloc(polled, (2 + 2 * member_count) * sizeof *polled));
        polled[0] = (struct pollfd){signals, POLLIN, 0};
        polled[1] = (struct pollfd){control, (short)(POLLIN | (full ? POLLOUT : 0)), 0};
        nfds_t count = 2;
        for (size_t i = 0; i < member_count; i++)
            for (int j = 0; j < 2; j++)
                if (members[i].streams[j].pipe >= 0) polled[count++] = (struct pollfd){members[i].streams[j].pipe, POLLIN, 0};
        int ready = poll(polled, count, next > 0 ? (int)(next * 1000) + 1 : 0);
        if (ready < 0 && errno != EINTR) break;
        if (ready <= 0) continue;
        if (count > 2)
            for (size_t i = 0; i < member_count; i++)
                for (int j = 0; j < 2; j++) drain_stream(&members[i], &members[i].streams[j]);
        /* Whoever tells all processes of a job or a service to end (Slurm, systemd) tells the worker too, and it may give its
         * members time: only the worker's word, or its end, ends its guard. */
        if (polled[0].revents != 0) {
            read_signals(signals);
            reap();
        }
        if (control >= 0 && (polled[1].revents & (POLLIN | POLLHUP | POLLERR)) && !read_frames()) {
            close(control);
            control = -1;
            closing = true;
        }
        if (closing) end_everything(5);
    }
    sweep();
    unhurried = 0;
    flush_frames();
    if (clean && ends != NULL && nothing_noted()) unlink(ends);
    if (!clean && epitaph[0] != NULL) {
        sigprocmask(SIG_SETMASK, &former_mask, NULL);
        if (notes_file >= 0) fcntl(notes_file, F_SETFD, 0); /* the epitaph keeps the lock */
        execvp(epitaph[0], epitaph);
    }
    return 0;
}

enum { MOST_RESTARTS = 5 };
static const double long_life = 60; /* seconds after which an earlier crash no longer counts */

/* Starts the tied program as the one member; false when it cannot be. */
static bool start_tied(const struct start *s, double grace) {
    int failure;
    enum stage stage;
    struct member *m = new_member(0);
    m->started = now();
    m->grace = grace;
    m->leader_first = true;
    m->pid = start(s, &failure, &stage);
    if (m->pid < 0) {
        fprintf(stderr, "te-guard: %s cannot be started: %s\n", s->argv[0], strerror(failure));
        return false;
    }
    member_count = 1;
    return true;
}

static int tie(pid_t pid, double grace, bool restarting, char **argv) {
    int signals = watch_signals();
    int owner = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pid > 0 && owner < 0) {
        if (errno == ESRCH) return 0; /* it has ended already: nothing to tie to */
        fprintf(stderr, "te-guard: process %d cannot be watched: %s\n", (int)pid, strerror(errno));
        return 71;
    }
    if (owner >= 0) fcntl(owner, F_SETFD, FD_CLOEXEC);
    struct start s = {.argv = argv, .envp = environ, .folder = "", .out = "", .err = "", .pipes = {-1, -1}, .mask = former_mask};
    int status = 0, restarts = 0;
    double again_at = 0; /* when the program is started next; 0: it runs */
    if (!start_tied(&s, grace)) return 127;
    for (;;) {
        double next = member_count > 0 ? check_time() : again_at - now();
        if (member_count > 0 || again_at > 0) {
            struct pollfd polled[2] = {{signals, POLLIN, 0}, {owner, POLLIN, 0}};
            int ready = poll(polled, closing ? 1 : 2, next > 0 ? (int)(next * 1000) + 1 : 0);
            if (ready < 0 && errno != EINTR) break;
            if (ready > 0) {
                if (polled[0].revents != 0 && read_signals(signals)) closing = true;
                if (polled[1].revents != 0) closing = true;
                if (closing) end_everything(grace);
                reap();
            }
        }
        status = members[0].status; /* stays readable after release: the array is never shrunk */
        if (member_count > 0) continue;
        if (closing || !restarting || !WIFSIGNALED(status)) break;
        if (again_at == 0) {
            restarts = members[0].stopped - members[0].started > long_life ? 1 : restarts + 1;
            if (restarts > MOST_RESTARTS) break;
            fprintf(stderr, "te-guard: %s was killed by signal %d and is started again\n", argv[0], WTERMSIG(status));
            again_at = now() + 0.1 * (1 << restarts);
        } else if (now() >= again_at) {
            again_at = 0;
            if (!start_tied(&s, grace)) break;
        }
    }
    sweep();
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setsid();
    if (argc >= 3 && strcmp(argv[1], "serve") == 0) {
        bool noted = argc > 4 && strcmp(argv[3], "--ends") == 0;
        int at = noted ? 5 : 3;
        return serve(atoi(argv[2]), noted ? argv[4] : NULL, argv + (argc > at + 1 && strcmp(argv[at], "--") == 0 ? at + 1 : argc));
    }
    if (argc >= 5 && strcmp(argv[1], "tie") == 0) {
        double grace = 10;
        bool restarting = false;
        int at = 3;
        if (strcmp(argv[at], "--grace") == 0 && argc > at + 2) {
            grace = atof(argv[at + 1]);
            at += 2;
        }
        if (strcmp(argv[at], "--restart") == 0 && argc > at + 1) {
            restarting = true;
            at++;
        }
        if (strcmp(argv[at], "--") == 0 && argc > at + 1) return tie((pid_t)atol(argv[2]), grace, restarting, argv + at + 1);
    }
    fprintf(stderr, "usage: te-guard tie <pid> [--grace <seconds>] [--restart] -- program arguments…\n"
                    "       te-guard serve <fd> [--ends <file>] [-- epitaph arguments…]\n");
    return 64;
}
