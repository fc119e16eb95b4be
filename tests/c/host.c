/* What a process that hosts the library must not notice: signals, broken pipes, forks, its
 * standard output; and what its surroundings may do to it: full disks, closed doors, exits. */
#include "kogge_test.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int argc_here;
static char **argv_here;

/* Runs `work` in a child that the library has not worked in; its exit code, or -1 for a signal. */
static int in_child(void (*work)(void)) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        begin(argc_here, argv_here);
        work();
        exit(finish());
    }
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void open_and_close(void) {
    kogge_config *config = solo_config("before-fork");
    kogge_node *node = NULL;
    OK(kogge_node_open(config, LIMIT, &node, &problem));
    kogge_config_free(config);
    close_node(node);
}

static void a_closed_door_is_denied(void) {
    kogge_config *config = solo_config("closed/data");
    kogge_node *node = NULL;
    kogge_error *error = NULL;
    CHECK(mkdir(in_folder("closed"), 0700) == 0);
    if (geteuid() != 0) {
        CHECK(chmod(in_folder("closed"), 0500) == 0);
    } else if (setgid(65534) != 0 || setuid(65534) != 0) {
        perror("setuid");
        exit(1);
    }
    CHECK(kogge_node_open(config, LIMIT, &node, &error) == KOGGE_STATUS_DENIED);
    CHECK(kogge_error_get_os_code(error) == EACCES);
    kogge_error_free(error);
    kogge_config_free(config);
}

/* A file system that is full sooner or later: while the node is opened, or while it stores. */
static void a_full_disk_is_said_so(void) {
    static const char *sizes[] = {"size=64k", "size=1m", "size=24m"};
    artifact large = scene_artifact("large"), tiny = scene_artifact("tiny");
    size_t at;
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return; /* Not allowed here. */
    }
    for (at = 0; at < 3; at++) {
        kogge_config *config = scene_config("full/data");
        kogge_node *node = NULL;
        kogge_sink sink = sink_of(KOGGE_SINK_NONE);
        kogge_fetch_request request = request_for(&large);
        kogge_status status;
        CHECK(mkdir(in_folder("full"), 0700) == 0 || errno == EEXIST);
        CHECK(mount("none", in_folder("full"), "tmpfs", 0, sizes[at]) == 0);
        status = kogge_node_open(config, LIMIT, &node, NULL);
        if (status == KOGGE_STATUS_OK) {
            status = kogge_node_live(node, LIMIT, NULL);
            if (status == KOGGE_STATUS_OK) {
                status = kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, NULL);
            }
            if (at == 2) {
                /* The node lives on, and small things still fit. */
                IS(KOGGE_STATUS_QUOTA, status);
                request = request_for(&tiny);
                OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, &problem));
            }
            close_node(node);
        }
        CHECK(status == KOGGE_STATUS_QUOTA || status == KOGGE_STATUS_IO ||
              status == KOGGE_STATUS_CLOSED);
        kogge_config_free(config);
        CHECK(umount(in_folder("full")) == 0);
    }
}

static void *nothing(void *data) { return data; }

/* A system that gives no more threads: calls that need one say so, and the node stays open. */
static void a_refused_thread_is_an_error(void) {
    kogge_config *config = solo_config("refused"), *other = solo_config("refused-too");
    kogge_node *node = NULL, *second = NULL;
    told it;
    kogge_completion completion = {sizeof completion, told_end, &it, told_drop, NULL, 0, NULL};
    kogge_op *op = NULL;
    struct rlimit before, less;
    pthread_t thread;
    uint8_t id[32];
    memset(&it, 0, sizeof it);
    OK(kogge_node_open(config, LIMIT, &node, &problem));
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
        perror("setuid");
        exit(1);
    }
    CHECK(getrlimit(RLIMIT_NPROC, &before) == 0);
    less = before;
    less.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NPROC, &less) == 0);
    if (pthread_create(&thread, NULL, nothing, NULL) == 0) {
        pthread_join(thread, NULL); /* Not enforced here. */
    } else {
        IS(KOGGE_STATUS_IO, kogge_node_close(node, LIMIT, &problem));
        IS(KOGGE_STATUS_IO, kogge_node_close_start(node, &completion, &op, &problem));
        IS(KOGGE_STATUS_IO, kogge_node_open(other, LIMIT, &second, &problem));
        CHECK(it.ends == 0 && it.drops == 0);
        OK(kogge_node_get_id(node, id, &problem));
    }
    CHECK(setrlimit(RLIMIT_NPROC, &before) == 0);
    close_node(node);
    kogge_config_free(config);
    kogge_config_free(other);
}

/* Puts something that takes no bytes in the place of the descriptors of a file of the store. */
static void break_descriptors(const char *path) {
    struct stat wanted, found;
    int fd, count = 0, broken = open("/dev/null", O_RDONLY);
    CHECK(stat(path, &wanted) == 0 && broken >= 0);
    for (fd = 3; fd < 256; fd++) {
        if (fd != broken && fstat(fd, &found) == 0 && found.st_dev == wanted.st_dev &&
            found.st_ino == wanted.st_ino) {
            CHECK(dup2(broken, fd) == fd);
            count++;
        }
    }
    CHECK(count != 0);
}

/* A node whose disk fails for good: it says so once, and calls say why. */
static void a_node_that_cannot_go_on_tells_why(void) {
    kogge_config *config = solo_config("broken");
    kogge_node *node = NULL;
    kogge_events *events = NULL;
    kogge_event *event = NULL;
    kogge_event_view view;
    kogge_buffer *json = NULL;
    kogge_error *error = NULL;
    kogge_queue *queue = NULL;
    kogge_completed item;
    kogge_status status;
    uint8_t id[32];
    size_t count, told = 0;
    OK(kogge_node_open(config, LIMIT, &node, &problem));
    OK(kogge_node_live(node, LIMIT, &problem));
    OK(kogge_events_open(node, NULL, &events, &problem));
    OK(kogge_queue_new(&queue, &problem));
    OK(kogge_events_attach(events, queue, 1, &problem));
    break_descriptors(in_folder("broken/log/data.mdb"));
    status = kogge_build_request(node, str("maven g:a:1"), LIMIT, &json, NULL);
    CHECK(status != KOGGE_STATUS_OK);
    while ((status = kogge_events_next(events, LIMIT, &event, NULL)) == KOGGE_STATUS_OK) {
        OK(kogge_event_get(event, &view));
        told += is_text(view.kind, "stopped") && memmem(view.json.ptr, view.json.len, "reason", 6);
        kogge_event_free(event);
    }
    CHECK(told == 1 && status == KOGGE_STATUS_END);
    OK(kogge_queue_next(queue, LIMIT, &item, 1, &count));
    CHECK(kogge_node_get_id(node, id, &error) == KOGGE_STATUS_CLOSED);
    CHECK(memmem(kogge_error_get_message(error).ptr, kogge_error_get_message(error).len,
                 "stopped: ", 9) != NULL);
    kogge_error_free(error);
    IS(KOGGE_STATUS_CLOSED, kogge_node_live(node, LIMIT, &problem));
    IS(KOGGE_STATUS_CLOSED,
       kogge_node_query_json(node, str("status"), none(), LIMIT, &json, &problem));
    close_node(node);
    kogge_events_free(events);
    kogge_queue_free(queue);
    /* The directory is free; whether its file stands depends on the disk. */
    CHECK(kogge_node_open(config, LIMIT, &node, NULL) == KOGGE_STATUS_OK);
    close_node(node);
    kogge_config_free(config);
}

static void never_return(void *user_data, kogge_op *op, kogge_status status) {
    (void)op;
    (void)status;
    *(atomic_bool *)user_data = true;
    for (;;) {
        pause();
    }
}

static void a_process_exits_whatever_its_callbacks_do(void) {
    static atomic_bool entered;
    kogge_completion completion = {sizeof completion, never_return, &entered, NULL, NULL, 0, NULL};
    kogge_config *config = solo_config("exit");
    kogge_node *node = NULL;
    kogge_op *op = NULL;
    OK(kogge_node_open(config, LIMIT, &node, &problem));
    OK(kogge_node_live_start(node, &completion, &op, &problem));
    UNTIL(entered);
    IS(KOGGE_STATUS_TIMED_OUT, kogge_node_close(node, 20, &problem));
    exit(7);
}

static atomic_int handled, handled_elsewhere;
static pid_t main_thread;

static void handle(int signal) {
    (void)signal;
    handled++;
    if (gettid() != main_thread) {
        handled_elsewhere++;
    }
}

static void no_signal_reaches_the_library(void) {
    struct sigaction action;
    sigset_t set, before;
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");
    int looked = 0, at;
    main_thread = gettid();
    while ((entry = readdir(tasks)) != NULL) {
        char path[512], *status, mask[64];
        const char *found;
        size_t len = 0;
        unsigned long long blocked;
        FILE *file;
        if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == main_thread) {
            continue;
        }
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        file = fopen(path, "r");
        if (file == NULL) {
            continue; /* It has ended. */
        }
        status = calloc(1, 8192);
        len = fread(status, 1, 8191, file);
        fclose(file);
        found = len == 0 ? NULL : strstr(status, "SigBlk:");
        if (found != NULL) {
            sscanf(found, "SigBlk: %63s", mask);
            blocked = strtoull(mask, NULL, 16);
            for (at = 1; at < 32; at++) {
                /* But those that a thread brings upon itself, and the profiler's. */
                bool is_own = at == SIGSEGV || at == SIGBUS || at == SIGFPE || at == SIGILL ||
                              at == SIGTRAP || at == SIGSYS || at == SIGABRT || at == SIGPROF;
                bool is_blocked = (blocked >> (at - 1) & 1) == 1;
                CHECK(at == SIGKILL || at == SIGSTOP || is_blocked == !is_own);
            }
            looked++;
        }
        free(status);
    }
    closedir(tasks);
    CHECK(looked >= 3);

    memset(&action, 0, sizeof action);
    action.sa_handler = handle;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, &before) == 0);
    for (at = 0; at < 20; at++) {
        CHECK(kill(getpid(), SIGUSR1) == 0);
        nap();
    }
    CHECK(handled == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    UNTIL(handled == 1);
    CHECK(handled_elsewhere == 0);
}

static void *interrupt(void *thread) {
    int at;
    for (at = 0; at < 50; at++) {
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
        nap();
    }
    return NULL;
}

/* Calls that wait are not disturbed by handlers, and let them run. */
static void a_call_that_waits_lets_handlers_run(kogge_node *node) {
    kogge_events *events = NULL;
    kogge_event *event = NULL;
    kogge_event_filter filter;
    pthread_t other, here = pthread_self();
    memset(&filter, 0, sizeof filter);
    filter.struct_size = sizeof filter;
    filter.kinds = str("fault");
    OK(kogge_events_open(node, &filter, &events, &problem));
    handled = 0;
    CHECK(pthread_create(&other, NULL, interrupt, &here) == 0);
    IS(KOGGE_STATUS_TIMED_OUT, kogge_events_next(events, 200, &event, &problem));
    pthread_join(other, NULL);
    CHECK(handled > 1);
    kogge_events_free(events);
}

static void a_broken_pipe_is_an_error(kogge_node *node) {
    artifact it = scene_artifact("medium");
    kogge_fetch_request request = request_for(&it);
    kogge_sink sink = sink_of(KOGGE_SINK_FD);
    kogge_op *op = NULL;
    kogge_error *error = NULL;
    int ends[2], round;
    struct sigaction action;
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    for (round = 0; round < 4; round++) {
        CHECK((round < 2 ? pipe(ends) : socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) == 0);
        CHECK(close(ends[0]) == 0);
        sink.fd = ends[1];
        if (round % 2 == 0) {
            CHECK(kogge_fetch(node, &request, &sink, LIMIT, NULL, NULL, NULL, &error) ==
                  KOGGE_STATUS_IO);
        } else {
            OK(kogge_fetch_start(node, &request, &sink, NULL, &op, &problem));
            OK(kogge_op_wait(op, LIMIT));
            CHECK(kogge_fetch_finish(op, NULL, NULL, NULL, &error) == KOGGE_STATUS_IO);
            kogge_op_free(op);
        }
        CHECK(kogge_error_get_os_code(error) == EPIPE);
        kogge_error_free(error);
        close(ends[1]);
    }
}

static void *drain(void *end) {
    static char bytes[65536];
    size_t all = 0;
    ssize_t got;
    while ((got = read(*(int *)end, bytes, sizeof bytes)) > 0) {
        all += (size_t)got;
    }
    return (void *)(uintptr_t)all;
}

/* Two dozen pipes that nobody reads: they hold up nothing but themselves. */
static void a_full_pipe_waits_alone(kogge_node *node) {
    artifact it = scene_artifact("medium");
    kogge_fetch_request request = request_for(&it);
    kogge_sink sink = sink_of(KOGGE_SINK_FD), nowhere = sink_of(KOGGE_SINK_NONE);
    kogge_op *ops[24];
    int ends[24][2], at;
    pthread_t reader;
    void *all = NULL;
    for (at = 0; at < 24; at++) {
        CHECK(pipe2(ends[at], at % 2 == 0 ? O_NONBLOCK : 0) == 0);
        CHECK(fcntl(ends[at][0], F_SETFL, 0) == 0);
        sink.fd = ends[at][1];
        OK(kogge_fetch_start(node, &request, &sink, NULL, &ops[at], &problem));
    }
    IS(KOGGE_STATUS_TIMED_OUT, kogge_op_wait(ops[0], 50));
    OK(kogge_fetch(node, &request, &nowhere, LIMIT, NULL, NULL, NULL, &problem));
    /* One that blocks and one that does not are read after all. */
    for (at = 0; at < 2; at++) {
        CHECK(close(ends[at][1]) == 0);
        CHECK(pthread_create(&reader, NULL, drain, &ends[at][0]) == 0);
        OK(kogge_op_wait(ops[at], LIMIT));
        OK(kogge_op_get_status(ops[at]));
        pthread_join(reader, &all);
        CHECK((uintptr_t)all == it.size);
    }
    for (at = 2; at < 24; at++) {
        OK(kogge_op_cancel(ops[at]));
        OK(kogge_op_wait(ops[at], LIMIT));
        IS(KOGGE_STATUS_CANCELLED, kogge_op_get_status(ops[at]));
        close(ends[at][1]);
    }
    for (at = 0; at < 24; at++) {
        kogge_op_free(ops[at]);
        close(ends[at][0]);
    }
}

/* Fills a pipe or a socket up; the bytes that fit. */
static size_t fill(int end) {
    static char bytes[4096];
    size_t all = 0;
    ssize_t count;
    int mode = fcntl(end, F_GETFL);
    CHECK(fcntl(end, F_SETFL, mode | O_NONBLOCK) == 0);
    while ((count = write(end, bytes, sizeof bytes)) > 0) {
        all += (size_t)count;
    }
    CHECK(errno == EAGAIN && fcntl(end, F_SETFL, mode) == 0);
    return all;
}

/* Two fetches into each of a dozen full pipes and sockets that block. When there is room for one of
 * the two, the other goes on waiting without holding up the node. */
static void two_fetches_into_one_full_pipe_hold_up_nothing(void) {
    artifact it = scene_artifact("medium");
    kogge_fetch_request request = request_for(&it);
    kogge_sink sink = sink_of(KOGGE_SINK_FD), nowhere = sink_of(KOGGE_SINK_NONE);
    kogge_node *node = open_scene("two-fetches");
    kogge_op *ops[24];
    int ends[12][2], at;
    size_t filled[12];
    pthread_t reader;
    void *all = NULL;
    char page[4096];
    OK(kogge_fetch(node, &request, &nowhere, LIMIT, NULL, NULL, NULL, &problem));
    for (at = 0; at < 24; at++) {
        int *pair = ends[at / 2];
        if (at % 2 == 0) {
            CHECK((at % 4 == 0 ? pipe(pair) : socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) == 0);
            filled[at / 2] = fill(pair[1]);
        }
        sink.fd = pair[1];
        OK(kogge_fetch_start(node, &request, &sink, NULL, &ops[at], &problem));
    }
    IS(KOGGE_STATUS_TIMED_OUT, kogge_op_wait(ops[0], 50));
    for (at = 0; at < 12; at++) {
        CHECK(read(ends[at][0], page, sizeof page) == (ssize_t)sizeof page);
    }
    IS(KOGGE_STATUS_TIMED_OUT, kogge_op_wait(ops[0], 50));
    OK(kogge_fetch(node, &request, &nowhere, LIMIT, NULL, NULL, NULL, &problem));
    /* A pipe and a socket are read after all, and get everything. */
    for (at = 0; at < 2; at++) {
        int op;
        CHECK(close(ends[at][1]) == 0);
        CHECK(pthread_create(&reader, NULL, drain, &ends[at][0]) == 0);
        for (op = 2 * at; op < 2 * at + 2; op++) {
            OK(kogge_op_wait(ops[op], LIMIT));
            OK(kogge_op_get_status(ops[op]));
        }
        pthread_join(reader, &all);
        CHECK((uintptr_t)all == filled[at] - sizeof page + 2 * it.size);
    }
    for (at = 4; at < 24; at++) {
        OK(kogge_op_cancel(ops[at]));
        OK(kogge_op_wait(ops[at], LIMIT));
        IS(KOGGE_STATUS_CANCELLED, kogge_op_get_status(ops[at]));
    }
    close_node(node);
    for (at = 0; at < 24; at++) {
        kogge_op_free(ops[at]);
    }
    for (at = 0; at < 12; at++) {
        close(ends[at][0]);
        if (2 <= at) {
            /* The mode of the host's own description is as it was. */
            CHECK((fcntl(ends[at][1], F_GETFL) & O_NONBLOCK) == 0);
            close(ends[at][1]);
        }
    }
}

static bool is_fork;

/* LeakSanitizer asks: what only threads know that a fork left behind is no leak of the child. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return is_fork; }

static void in_a_fork_nothing_works_and_nothing_breaks(kogge_node *node, kogge_queue *queue) {
    artifact tiny = scene_artifact("tiny");
    kogge_fetch_request request = request_for(&tiny);
    kogge_sink sink = sink_of(KOGGE_SINK_BUFFER);
    kogge_buffer *buffer = NULL;
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        kogge_config *config = NULL;
        kogge_queue *other = NULL;
        kogge_error *error = NULL;
        kogge_completed item;
        size_t count;
        bool well =
            kogge_fetch(node, &request, &sink, LIMIT, NULL, &buffer, NULL, &error) ==
                KOGGE_STATUS_BAD_HANDLE &&
            error == NULL && kogge_node_close(node, LIMIT, NULL) == KOGGE_STATUS_BAD_HANDLE &&
            kogge_config_new(KOGGE_ABI_VERSION, &config, NULL) == KOGGE_STATUS_BAD_HANDLE &&
            kogge_queue_new(&other, NULL) == KOGGE_STATUS_BAD_HANDLE &&
            kogge_queue_next(queue, LIMIT, &item, 1, &count) == KOGGE_STATUS_BAD_HANDLE &&
            kogge_queue_get_fd(queue) == -1 && kogge_debug_live_handles() == 0 &&
            kogge_version().len != 0 && kogge_status_get_name(0).len == 2;
        kogge_queue_free(queue);
        _exit(well ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* Also with all that a process does at its end. */
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        is_fork = true;
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    OK(kogge_fetch(node, &request, &sink, LIMIT, NULL, &buffer, NULL, &problem));
    kogge_buffer_free(buffer);
    OK(kogge_queue_wake(queue));
}

/* Peers inside this very process that go away in the middle. */
static void peers_may_hang_up(void) {
    int round;
    artifact it = scene_artifact("medium");
    kogge_fetch_request request = request_for(&it);
    kogge_sink nowhere = sink_of(KOGGE_SINK_NONE);
    kogge_config *config = scene_config("server");
    kogge_node *server, *client;
    kogge_buffer *json = NULL;
    char *text, address[256];
    OK(kogge_config_add_str(config, str("listen"), str("/ip4/127.0.0.1/tcp/0"), &problem));
    server = open_live(config);
    OK(kogge_fetch(server, &request, &nowhere, LIMIT, NULL, NULL, NULL, &problem));
    for (;;) {
        const char *at;
        OK(kogge_node_query_json(server, str("status"), none(), LIMIT, &json, &problem));
        text = take_text(json);
        at = strstr(text, "\"/ip4/127.0.0.1/tcp/");
        if (at != NULL) {
            snprintf(address, sizeof address, "%.*s", (int)strcspn(at + 1, "\""), at + 1);
            free(text);
            break;
        }
        free(text);
        nap();
    }
    for (round = 0; round < 3; round++) {
        kogge_op *op = NULL;
        char name[24];
        snprintf(name, sizeof name, "client%d", round);
        config = scene_config(name);
        OK(kogge_config_add_str(config, str("peers"), str(address), &problem));
        client = open_live(config);
        OK(kogge_fetch_start(client, &request, &nowhere, NULL, &op, &problem));
        if (round == 2) {
            close_node(server);
            OK(kogge_op_wait(op, LIMIT)); /* The others have it too. */
            OK(kogge_op_get_status(op));
        }
        close_node(client);
        CHECK(kogge_op_get_status(op) != KOGGE_STATUS_AGAIN);
        kogge_op_free(op);
    }
}

int main(int argc, char **argv) {
    kogge_node *node;
    kogge_queue *queue = NULL;
    argc_here = argc;
    argv_here = argv;
    /* Children first: the library must not have worked in a process that forks. */
    CHECK(in_child(open_and_close) == 0);
    CHECK(in_child(a_closed_door_is_denied) == 0);
    CHECK(in_child(a_full_disk_is_said_so) == 0);
    CHECK(in_child(a_refused_thread_is_an_error) == 0);
    CHECK(in_child(a_node_that_cannot_go_on_tells_why) == 0);
    CHECK(in_child(a_process_exits_whatever_its_callbacks_do) == 7);
    begin(argc, argv);
    node = open_scene("data");
    OK(kogge_queue_new(&queue, &problem));
    no_signal_reaches_the_library();
    a_call_that_waits_lets_handlers_run(node);
    a_broken_pipe_is_an_error(node);
    a_full_pipe_waits_alone(node);
    two_fetches_into_one_full_pipe_hold_up_nothing();
    in_a_fork_nothing_works_and_nothing_breaks(node, queue);
    kogge_queue_free(queue);
    close_node(node);
    peers_may_hang_up();
    return finish();
}
