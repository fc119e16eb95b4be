#include "shim_private.h"

kg_made kg_fetch_start(kg_handle node, kg_handle queue, uint64_t tag, kg_wish wish,
                       const char *what, size_t what_len, const char *file, size_t file_len,
                       const char *path, size_t path_len) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_name name = {sizeof name, text(what, what_len), text(file, file_len)};
  kogge_fetch_request request = {.struct_size = sizeof request,
                                 .name = name,
                                 .range_offset = wish.range_offset,
                                 .range_len = wish.range_len,
                                 .max_bytes = wish.max_bytes};
  kogge_sink sink = {.struct_size = sizeof sink,
                     .kind = wish.sink,
                     .place_flags = wish.place_flags,
                     .path = text(path, path_len)};
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_fetch_start((kogge_node *)node, &request, &sink, &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_fetched kg_fetch_finish(kg_handle op) {
  kg_fetched fetched = {0};
  kogge_buffer *buffer = NULL;
  kogge_stream *stream = NULL;
  kogge_error *error = NULL;
  fetched.status =
      kogge_fetch_finish((kogge_op *)op, &fetched.result, &buffer, &stream, &error);
  kogge_op_free((kogge_op *)op);
  fetched.error = (kg_handle)error;
  fetched.buffer = (kg_handle)buffer;
  fetched.stream = (kg_handle)stream;
  if (buffer != NULL)
    fetched.bytes = kogge_buffer_get_bytes(buffer);
  return fetched;
}

kogge_bytes kg_buffer_get(kg_handle buffer) {
  return kogge_buffer_get_bytes((const kogge_buffer *)buffer);
}

void kg_buffer_free(kg_handle buffer) { kogge_buffer_free((kogge_buffer *)buffer); }

kg_made kg_chunk_start(kg_handle stream, kg_handle queue, uint64_t tag, uint64_t offset,
                       size_t max_len) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_stream_chunk_start((kogge_stream *)stream, offset, max_len, &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_chunk kg_chunk_finish(kg_handle op) {
  kg_chunk chunk = {0};
  kogge_buffer *buffer = NULL;
  kogge_error *error = NULL;
  chunk.status = kogge_stream_chunk_finish((kogge_op *)op, &buffer, &error);
  kogge_op_free((kogge_op *)op);
  chunk.error = (kg_handle)error;
  chunk.buffer = (kg_handle)buffer;
  if (buffer != NULL)
    chunk.bytes = kogge_buffer_get_bytes(buffer);
  return chunk;
}

uint64_t kg_stream_progress(kg_handle stream) {
  uint64_t bytes = 0;
  kogge_stream_get_progress((const kogge_stream *)stream, &bytes, NULL);
  return bytes;
}

void kg_stream_free(kg_handle stream) { kogge_stream_free((kogge_stream *)stream); }

kg_made kg_resolve(kg_handle node, const char *what, size_t what_len, const char *file,
                   size_t file_len) {
  kogge_name name = {sizeof name, text(what, what_len), text(file, file_len)};
  kogge_rows *rows = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_resolve((kogge_node *)node, &name, &rows, &error);
  return made(status, rows, error);
}

size_t kg_rows_len(kg_handle rows) { return kogge_rows_get_len((const kogge_rows *)rows); }

size_t kg_rows_entries(kg_handle rows, size_t from, kogge_entry *entries, size_t capacity) {
  size_t count = 0;
  while (count < capacity && kogge_rows_get_entry((const kogge_rows *)rows, from + count,
                                                  &entries[count]) == KOGGE_STATUS_OK)
    count++;
  return count;
}

kg_made kg_rows_json(kg_handle rows, size_t at) {
  kogge_buffer *json = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_rows_take_json((const kogge_rows *)rows, at, &json, &error);
  return made(status, json, error);
}

void kg_rows_free(kg_handle rows) { kogge_rows_free((kogge_rows *)rows); }

kg_made kg_cursor_open(kg_handle node, const char *query, size_t len) {
  kogge_cursor *cursor = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_log_query_open((kogge_node *)node, text(query, len), &cursor, &error);
  return made(status, cursor, error);
}

kg_made kg_cursor_start(kg_handle cursor, kg_handle queue, uint64_t tag) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_cursor_next_start((kogge_cursor *)cursor, &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_made kg_cursor_finish(kg_handle op) {
  kogge_rows *rows = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_cursor_next_finish((kogge_op *)op, &rows, &error);
  kogge_op_free((kogge_op *)op);
  return made(status, rows, error);
}

kg_made kg_cursor_token(kg_handle cursor) {
  kogge_buffer *token = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_cursor_take_token((kogge_cursor *)cursor, &token, &error);
  return made(status, token, error);
}

void kg_cursor_free(kg_handle cursor) { kogge_cursor_free((kogge_cursor *)cursor); }

kg_made kg_log_document(kg_handle node, kg_document kind, uint64_t index) {
  kogge_node *it = (kogge_node *)node;
  kogge_buffer *document = NULL;
  kogge_error *error = NULL;
  kogge_status status = KOGGE_STATUS_INVALID_ARGUMENT;
  switch (kind) {
  case KG_CHECKPOINT:
    status = kogge_log_checkpoint(it, &document, &error);
    break;
  case KG_POLICY:
    status = kogge_log_policy(it, &document, &error);
    break;
  case KG_PROOF:
    status = kogge_log_prove(it, index, &document, &error);
    break;
  case KG_WAYBILL:
    status = kogge_log_waybill(it, index, &document, &error);
    break;
  }
  return made(status, document, error);
}

kg_made kg_events_open(kg_handle node, kg_handle queue, uint64_t tag, const char *kinds,
                       size_t len, uint64_t after) {
  kogge_event_filter filter = {sizeof filter, text(kinds, len), after};
  kogge_events *events = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_events_open((kogge_node *)node, &filter, &events, &error);
  if (status == KOGGE_STATUS_OK) {
    status = kogge_events_attach(events, (kogge_queue *)queue, tag, &error);
    if (status != KOGGE_STATUS_OK) {
      kogge_events_free(events);
      events = NULL;
    }
  }
  return made(status, events, error);
}

kg_event kg_events_next(kg_handle events) {
  kg_event next = {0};
  kogge_event *event = NULL;
  kogge_error *error = NULL;
  next.status = kogge_events_next((kogge_events *)events, 0, &event, &error);
  next.error = (kg_handle)error;
  next.event = (kg_handle)event;
  if (event != NULL)
    kogge_event_get(event, &next.view);
  return next;
}

void kg_event_free(kg_handle event) { kogge_event_free((kogge_event *)event); }

void kg_events_free(kg_handle events) { kogge_events_free((kogge_events *)events); }

kg_made kg_verify_file(const char *path, size_t path_len, const uint8_t *waybill,
                       size_t waybill_len, int32_t trust_kind, const uint8_t *trust,
                       size_t trust_len) {
  kogge_rows *rows = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_verify_file(text(path, path_len), bytes(waybill, waybill_len), trust_kind,
                        bytes(trust, trust_len), &rows, &error);
  return made(status, rows, error);
}

kg_made kg_verify_bytes(const uint8_t *artifact, size_t len, const uint8_t *waybill,
                        size_t waybill_len, int32_t trust_kind, const uint8_t *trust,
                        size_t trust_len) {
  kogge_rows *rows = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_verify_bytes(bytes(artifact, len), bytes(waybill, waybill_len), trust_kind,
                         bytes(trust, trust_len), &rows, &error);
  return made(status, rows, error);
}
