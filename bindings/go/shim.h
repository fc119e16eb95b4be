// What cgo calls: kogge.h in a form that suits Go.
//
// Handles cross as numbers: taken for addresses, some of them lie in Go's own heap, where its garbage
// collector does not expect what others put there. Texts cross as address and length, and structs are made here, so that no
// Go memory with pointers in it is ever handed over. Nothing here calls back into Go.

#ifndef KOGGE_GO_SHIM_H
#define KOGGE_GO_SHIM_H

#include <kogge.h>

#if KOGGE_ABI_MAJOR != 1
#error "this Go package is for version 1 of the interface of libkogge; kogge.h is of another"
#endif

typedef uintptr_t kg_handle;

// A handle that was made, or why not. If it is an operation that has ended at once, of which the queue
// does not tell, `end` is how; else KOGGE_STATUS_AGAIN.
typedef struct {
  kogge_status status;
  kogge_status end;
  kg_handle handle;
  kg_handle error;
} kg_made;

// An error's texts, borrowed from it.
typedef struct {
  kogge_status code;
  int32_t os_code;
  kogge_str message;
  kogge_str detail;
} kg_error;

kg_error kg_error_get(kg_handle error);
kogge_str kg_error_cause(kg_handle error, size_t depth);
void kg_error_free(kg_handle error);

// ---- Configuration

typedef enum { KG_SET, KG_ADD, KG_MERGE } kg_change;

kg_made kg_config_new(void);
kg_made kg_config_text(kg_handle config, kg_change change, const char *key, size_t key_len,
                       const char *value, size_t value_len);
kg_made kg_config_number(kg_handle config, const char *key, size_t key_len, uint64_t value);
kg_made kg_config_flag(kg_handle config, const char *key, size_t key_len, uint8_t value);
kg_made kg_config_network(kg_handle config, int32_t network, const uint8_t *genesis, size_t len);
// Has the log written to `fd`, as records; closes `fd` after the last, or if this fails.
kg_made kg_config_log(kg_handle config, int32_t max_level, int fd);
void kg_config_free(kg_handle config);

// Begins each record of the log, which is written at once, followed by both texts.
typedef struct {
  uint32_t lost; // records before this one for which the reader was too slow
  uint16_t target_len;
  uint16_t line_len;
  int32_t level;
} kg_record;

// ---- Queue and operations

typedef struct {
  uint64_t tag;
  kogge_status status;
  int32_t is_op;
} kg_item;

typedef struct {
  kogge_status status;
  size_t count;
} kg_taken;

kg_made kg_queue_new(void);
kg_taken kg_queue_next(kg_handle queue, kg_item *items, size_t capacity);
void kg_queue_wake(kg_handle queue);
void kg_queue_free(kg_handle queue);

typedef struct {
  uint64_t done;
  uint64_t total;
} kg_progress;

void kg_op_cancel(kg_handle op);
kg_progress kg_op_progress(kg_handle op);
kg_made kg_op_finish(kg_handle op); // frees the operation
void kg_op_free(kg_handle op);

// ---- Node. Each `…_finish` frees the operation.

kg_made kg_open_start(kg_handle config, kg_handle queue, uint64_t tag);
kg_made kg_open_finish(kg_handle op);
kg_made kg_close(kg_handle node);
kg_made kg_node_id(kg_handle node, uint8_t *id);
kg_made kg_live_start(kg_handle node, kg_handle queue, uint64_t tag);
kg_made kg_ask_start(kg_handle node, kg_handle queue, uint64_t tag, const char *topic,
                     size_t topic_len, const char *params, size_t params_len);
kg_made kg_ask_finish(kg_handle op);
kg_made kg_build_request_start(kg_handle node, kg_handle queue, uint64_t tag, const char *spec,
                               size_t len);
kg_made kg_build_wait_start(kg_handle node, kg_handle queue, uint64_t tag, const char *id,
                            size_t len);
kg_made kg_build_finish(kg_handle op);

// ---- Store

typedef struct {
  kogge_status status;
  kg_handle error;
  kogge_stored stored;
} kg_stat;

typedef struct {
  kogge_status status;
  kg_handle error;
  uint64_t number;
} kg_number;

kg_stat kg_store_stat(kg_handle node, const char *digest, size_t len);
kg_made kg_pin_start(kg_handle node, kg_handle queue, uint64_t tag, const char *digest, size_t len,
                     uint8_t pinned);
kg_made kg_shrink_start(kg_handle node, kg_handle queue, uint64_t tag, uint64_t bytes_max);
kg_number kg_shrink_finish(kg_handle op);

// ---- Fetching

typedef struct {
  uint64_t range_offset;
  uint64_t range_len;
  uint64_t max_bytes;
  int32_t sink;
  uint32_t place_flags;
} kg_wish;

typedef struct {
  kogge_status status;
  kg_handle error;
  kg_handle buffer;
  kogge_bytes bytes;
  kg_handle stream;
  kogge_fetch_result result;
} kg_fetched;

// A buffer and what is in it, valid until it is freed.
typedef struct {
  kogge_status status;
  kg_handle error;
  kg_handle buffer;
  kogge_bytes bytes;
} kg_chunk;

kg_made kg_fetch_start(kg_handle node, kg_handle queue, uint64_t tag, kg_wish wish,
                       const char *what, size_t what_len, const char *file, size_t file_len,
                       const char *path, size_t path_len);
kg_fetched kg_fetch_finish(kg_handle op);
kogge_bytes kg_buffer_get(kg_handle buffer);
void kg_buffer_free(kg_handle buffer);
kg_made kg_chunk_start(kg_handle stream, kg_handle queue, uint64_t tag, uint64_t offset,
                       size_t max_len);
kg_chunk kg_chunk_finish(kg_handle op);
uint64_t kg_stream_progress(kg_handle stream);
void kg_stream_free(kg_handle stream);

// ---- Log

kg_made kg_resolve(kg_handle node, const char *what, size_t what_len, const char *file,
                   size_t file_len);
size_t kg_rows_len(kg_handle rows);
size_t kg_rows_entries(kg_handle rows, size_t from, kogge_entry *entries, size_t capacity);
kg_made kg_rows_json(kg_handle rows, size_t at);
void kg_rows_free(kg_handle rows);
kg_made kg_cursor_open(kg_handle node, const char *query, size_t len);
kg_made kg_cursor_start(kg_handle cursor, kg_handle queue, uint64_t tag);
kg_made kg_cursor_finish(kg_handle op);
kg_made kg_cursor_token(kg_handle cursor);
void kg_cursor_free(kg_handle cursor);

typedef enum { KG_CHECKPOINT, KG_POLICY, KG_PROOF, KG_WAYBILL } kg_document;

kg_made kg_log_document(kg_handle node, kg_document kind, uint64_t index);

// ---- Events

typedef struct {
  kogge_status status;
  kg_handle error;
  kg_handle event;
  kogge_event_view view; // valid until the event is freed
} kg_event;

kg_made kg_events_open(kg_handle node, kg_handle queue, uint64_t tag, const char *kinds,
                       size_t len, uint64_t after);
kg_event kg_events_next(kg_handle events);
void kg_event_free(kg_handle event);
void kg_events_free(kg_handle events);

// ---- Verification

kg_made kg_verify_file(const char *path, size_t path_len, const uint8_t *waybill,
                       size_t waybill_len, int32_t trust_kind, const uint8_t *trust,
                       size_t trust_len);
kg_made kg_verify_bytes(const uint8_t *artifact, size_t len, const uint8_t *waybill,
                        size_t waybill_len, int32_t trust_kind, const uint8_t *trust,
                        size_t trust_len);

#endif
