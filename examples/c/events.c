/* An event loop: one thread waits in poll(2) for what the user types and for what the library
 * tells, by the descriptor of a completion queue. */
#include <poll.h>

#include "example.h"

enum { EVENTS = 1 }; /* The tag of the subscription; operations have larger ones. */

static int usage(int code) {
    fprintf(code == 0 ? stdout : stderr,
            "usage: events -d FOLDER [options]\n"
            "\n"
            "Prints what happens in the node. Each line of standard input is the name of an\n"
            "artifact (WHAT or WHAT FILE) that is fetched meanwhile; the end of the input ends\n"
            "the program when all are there.\n"
            "\n" NODE_USAGE);
    return code;
}

static void print_events(kogge_events *events) {
    kogge_event *event = NULL;
    kogge_event_view view;
    while (kogge_events_next(events, 0, &event, NULL) == KOGGE_STATUS_OK) {
        if (kogge_event_get(event, &view) == KOGGE_STATUS_OK) {
            printf("event %.*s\n", (int)view.json.len, view.json.ptr);
        }
        kogge_event_free(event);
    }
}

static void print_failure(const kogge_error *error) {
    kogge_str message = kogge_error_get_message(error);
    printf("failed: %.*s\n", (int)message.len, message.ptr);
}

/* Starts to fetch what a line names; whether something was started. */
static bool start(kogge_node *node, kogge_queue *queue, char *line, uint64_t tag) {
    kogge_fetch_request request = {.struct_size = sizeof request,
                                   .name = {.struct_size = sizeof request.name}};
    kogge_sink sink = {.struct_size = sizeof sink, .kind = KOGGE_SINK_NONE};
    kogge_completion completion = {.struct_size = sizeof completion, .queue = queue, .tag = tag};
    kogge_op *op = NULL;
    kogge_error *error = NULL;
    char *what = strtok(line, " \n"), *file = strtok(NULL, " \n");
    if (what == NULL) {
        return false;
    }
    request.name.what = text(what);
    request.name.file = text(file == NULL ? "" : file);
    if (kogge_fetch_start(node, &request, &sink, &completion, &op, &error) != KOGGE_STATUS_OK) {
        print_failure(error);
        kogge_error_free(error);
        return false;
    }
    return true;
}

static void print_end(const kogge_completed *item) {
    kogge_fetch_result result;
    kogge_error *error = NULL;
    if (kogge_fetch_finish(item->op, &result, NULL, NULL, &error) == KOGGE_STATUS_OK) {
        printf("fetched %llu bytes\n", (unsigned long long)result.size);
    } else {
        print_failure(error);
    }
    kogge_error_free(error);
    kogge_op_free(item->op);
}

int main(int argc, char **argv) {
    kogge_config *config = new_config();
    kogge_event_filter filter = {.struct_size = sizeof filter, .after = UINT64_MAX};
    kogge_node *node;
    kogge_queue *queue = NULL;
    kogge_events *events = NULL;
    kogge_error *error = NULL;
    struct pollfd ready[2];
    uint64_t tag = EVENTS;
    size_t running = 0;
    bool has_input = true;
    char line[4096];
    int option;
    while ((option = getopt(argc, argv, "d:g:p:h")) != -1) {
        if (option == 'h') {
            return usage(0);
        }
        if (!node_option(config, option, optarg)) {
            return usage(2);
        }
    }
    if (optind != argc) {
        return usage(2);
    }
    /* What a buffer of stdio holds, poll does not see. */
    setvbuf(stdin, NULL, _IONBF, 0);
    node = open_node(config);
    check("no queue", kogge_queue_new(&queue, &error), &error);
    check("no events", kogge_events_open(node, &filter, &events, &error), &error);
    check("no events", kogge_events_attach(events, queue, EVENTS, &error), &error);
    while (has_input || running != 0) {
        kogge_completed items[16];
        size_t count = 0, at;
        ready[0] = (struct pollfd){.fd = kogge_queue_get_fd(queue), .events = POLLIN};
        ready[1] = (struct pollfd){.fd = has_input ? STDIN_FILENO : -1, .events = POLLIN};
        if (poll(ready, 2, -1) < 0) {
            perror("poll");
            return 1;
        }
        if (ready[1].revents != 0) {
            has_input = fgets(line, sizeof line, stdin) != NULL;
            running += has_input && start(node, queue, line, ++tag);
        }
        if (ready[0].revents != 0 &&
            kogge_queue_next(queue, 0, items, 16, &count) != KOGGE_STATUS_OK) {
            count = 0;
        }
        for (at = 0; at < count; at++) {
            if (items[at].kind == KOGGE_COMPLETED_EVENTS) {
                print_events(events);
            } else {
                print_end(&items[at]);
                running--;
            }
        }
        fflush(stdout);
    }
    kogge_events_free(events);
    close_node(node);
    kogge_queue_free(queue);
    return 0;
}
