/* The heart of the suite, short enough for valgrind in every run: a node, a fetch in each way, a
 * query, a callback, events, errors, a cancelled operation, the end. */
#include "kogge_test.h"

int main(int argc, char **argv) {
    kogge_node *node;
    artifact tiny, small;
    kogge_fetch_request request;
    kogge_sink buffered = sink_of(KOGGE_SINK_BUFFER), nowhere = sink_of(KOGGE_SINK_NONE);
    kogge_buffer *buffer = NULL;
    kogge_op *op = NULL;
    kogge_queue *queue = NULL;
    kogge_cursor *cursor = NULL;
    kogge_rows *rows = NULL;
    kogge_events *events = NULL;
    kogge_event *event = NULL;
    kogge_event_filter filter;
    kogge_completed item;
    size_t count;
    told it;
    kogge_completion completion = {sizeof completion, told_end, &it, told_drop, NULL, 7, NULL};
    begin(argc, argv);
    memset(&it, 0, sizeof it);
    tiny = scene_artifact("tiny");
    small = scene_artifact("small");
    node = open_scene("data");
    request = request_for(&tiny);
    OK(kogge_fetch(node, &request, &buffered, LIMIT, NULL, &buffer, NULL, &problem));
    CHECK(kogge_buffer_get_bytes(buffer).len == tiny.size);
    kogge_buffer_free(buffer);
    OK(kogge_queue_new(&queue, &problem));
    completion.queue = queue;
    request = request_for(&small);
    OK(kogge_fetch_start(node, &request, &nowhere, &completion, &op, &problem));
    OK(kogge_queue_next(queue, LIMIT, &item, 1, &count));
    CHECK(item.op == op && item.tag == 7);
    UNTIL(it.drops == 1);
    OK(kogge_fetch_finish(op, NULL, NULL, NULL, &problem));
    kogge_op_free(op);
    OK(kogge_fetch_start(node, &request, &buffered, NULL, &op, &problem));
    OK(kogge_op_cancel(op));
    OK(kogge_op_wait(op, LIMIT));
    kogge_op_free(op);
    OK(kogge_log_query_open(node, str("limit=3"), &cursor, &problem));
    OK(kogge_cursor_next(cursor, LIMIT, &rows, &problem));
    kogge_rows_free(rows);
    kogge_cursor_free(cursor);
    memset(&filter, 0, sizeof filter);
    filter.struct_size = sizeof filter;
    filter.after = UINT64_MAX;
    OK(kogge_events_open(node, &filter, &events, &problem));
    OK(kogge_events_next(events, LIMIT, &event, &problem));
    kogge_event_free(event);
    kogge_events_free(events);
    request.name.file = str("absent");
    IS(KOGGE_STATUS_NOT_FOUND,
       kogge_fetch(node, &request, &buffered, LIMIT, NULL, &buffer, NULL, &problem));
    kogge_queue_free(queue);
    close_node(node);
    return finish();
}
