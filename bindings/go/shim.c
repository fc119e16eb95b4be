#include "shim_private.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

kg_error kg_error_get(kg_handle error) {
  const kogge_error *it = (const kogge_error *)error;
  return (kg_error){kogge_error_get_code(it), kogge_error_get_os_code(it),
                    kogge_error_get_message(it), kogge_error_get_detail_json(it)};
}

kogge_str kg_error_cause(kg_handle error, size_t depth) {
  return kogge_error_get_cause((const kogge_error *)error, depth);
}

void kg_error_free(kg_handle error) { kogge_error_free((kogge_error *)error); }

kg_made kg_config_new(void) {
  kogge_config *config = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_config_new(KOGGE_ABI_VERSION, &config, &error);
  return made(status, config, error);
}

kg_made kg_config_text(kg_handle config, kg_change change, const char *key, size_t key_len,
                       const char *value, size_t value_len) {
  kogge_config *it = (kogge_config *)config;
  kogge_error *error = NULL;
  kogge_status status = KOGGE_STATUS_INVALID_ARGUMENT;
  switch (change) {
  case KG_SET:
    status = kogge_config_set_str(it, text(key, key_len), text(value, value_len), &error);
    break;
  case KG_ADD:
    status = kogge_config_add_str(it, text(key, key_len), text(value, value_len), &error);
    break;
  case KG_MERGE:
    status = kogge_config_merge_toml(it, text(value, value_len), &error);
    break;
  }
  return made(status, NULL, error);
}

kg_made kg_config_number(kg_handle config, const char *key, size_t key_len, uint64_t value) {
  kogge_error *error = NULL;
  kogge_status status =
      kogge_config_set_u64((kogge_config *)config, text(key, key_len), value, &error);
  return made(status, NULL, error);
}

kg_made kg_config_flag(kg_handle config, const char *key, size_t key_len, uint8_t value) {
  kogge_error *error = NULL;
  kogge_status status =
      kogge_config_set_bool((kogge_config *)config, text(key, key_len), value, &error);
  return made(status, NULL, error);
}

kg_made kg_config_network(kg_handle config, int32_t network, const uint8_t *genesis, size_t len) {
  kogge_error *error = NULL;
  kogge_status status =
      kogge_config_set_network((kogge_config *)config, network, bytes(genesis, len), &error);
  return made(status, NULL, error);
}

// Where lines of a log go.
typedef struct {
  int fd;
  uint32_t lost;
} log_sink;

// Writes at most PIPE_BUF bytes, all of them or none: records never mix or break. If the reader is too
// slow, the record is lost and counted: no thread of a node waits for a logger.
static void log_line(void *user_data, int32_t level, kogge_str target, kogge_str line) {
  log_sink *sink = user_data;
  char record[PIPE_BUF];
  size_t room = sizeof record - sizeof(kg_record);
  size_t target_len = target.len < 256 ? target.len : 256;
  size_t line_len = line.len < room - target_len ? line.len : room - target_len;
  kg_record head = {sink->lost, (uint16_t)target_len, (uint16_t)line_len, level};
  memcpy(record, &head, sizeof head);
  if (target_len != 0)
    memcpy(record + sizeof head, target.ptr, target_len);
  if (line_len != 0)
    memcpy(record + sizeof head + target_len, line.ptr, line_len);
  ssize_t written;
  do {
    written = write(sink->fd, record, sizeof head + target_len + line_len);
  } while (written < 0 && errno == EINTR);
  sink->lost = written < 0 ? sink->lost + 1 : 0;
}

static void log_drop(void *user_data) {
  log_sink *sink = user_data;
  close(sink->fd);
  free(sink);
}

kg_made kg_config_log(kg_handle config, int32_t max_level, int fd) {
  log_sink *sink = malloc(sizeof *sink);
  if (sink == NULL) {
    close(fd);
    return made(KOGGE_STATUS_QUOTA, NULL, NULL);
  }
  *sink = (log_sink){fd, 0};
  kogge_error *error = NULL;
  kogge_status status =
      kogge_config_set_log((kogge_config *)config, max_level, log_line, sink, log_drop, &error);
  if (status != KOGGE_STATUS_OK)
    log_drop(sink);
  return made(status, NULL, error);
}

void kg_config_free(kg_handle config) { kogge_config_free((kogge_config *)config); }

kg_made kg_queue_new(void) {
  kogge_queue *queue = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_queue_new(&queue, &error);
  return made(status, queue, error);
}

enum { ITEMS_MAX = 64 };

kg_taken kg_queue_next(kg_handle queue, kg_item *items, size_t capacity) {
  kogge_completed completed[ITEMS_MAX];
  kg_taken taken = {KOGGE_STATUS_OK, 0};
  size_t max = capacity < ITEMS_MAX ? capacity : ITEMS_MAX;
  taken.status = kogge_queue_next((kogge_queue *)queue, KOGGE_WAIT_FOREVER, completed, max,
                                  &taken.count);
  for (size_t at = 0; at < taken.count; at++)
    items[at] = (kg_item){completed[at].tag, completed[at].status,
                          completed[at].kind == KOGGE_COMPLETED_OP};
  return taken;
}

void kg_queue_wake(kg_handle queue) { kogge_queue_wake((kogge_queue *)queue); }

void kg_queue_free(kg_handle queue) { kogge_queue_free((kogge_queue *)queue); }

void kg_op_cancel(kg_handle op) { kogge_op_cancel((const kogge_op *)op); }

kg_progress kg_op_progress(kg_handle op) {
  kg_progress progress = {0, 0};
  kogge_op_get_progress((const kogge_op *)op, &progress.done, &progress.total);
  return progress;
}

kg_made kg_op_finish(kg_handle op) {
  kogge_error *error = NULL;
  kogge_status status = kogge_op_finish((kogge_op *)op, &error);
  kogge_op_free((kogge_op *)op);
  return made(status, NULL, error);
}

void kg_op_free(kg_handle op) { kogge_op_free((kogge_op *)op); }

kg_made kg_open_start(kg_handle config, kg_handle queue, uint64_t tag) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_node_open_start((const kogge_config *)config, &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_made kg_open_finish(kg_handle op) {
  kogge_node *node = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_node_open_finish((kogge_op *)op, &node, &error);
  kogge_op_free((kogge_op *)op);
  return made(status, node, error);
}

kg_made kg_close(kg_handle node) {
  kogge_error *error = NULL;
  kogge_status status = kogge_node_close((kogge_node *)node, KOGGE_WAIT_FOREVER, &error);
  return made(status, NULL, error);
}

kg_made kg_node_id(kg_handle node, uint8_t *id) {
  kogge_error *error = NULL;
  kogge_status status = kogge_node_get_id((const kogge_node *)node, id, &error);
  return made(status, NULL, error);
}

kg_made kg_live_start(kg_handle node, kg_handle queue, uint64_t tag) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_node_live_start((kogge_node *)node, &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_made kg_ask_start(kg_handle node, kg_handle queue, uint64_t tag, const char *topic,
                     size_t topic_len, const char *params, size_t params_len) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_node_query_json_start((kogge_node *)node, text(topic, topic_len),
                                  text(params, params_len), &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_made kg_ask_finish(kg_handle op) {
  kogge_buffer *json = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_node_query_json_finish((kogge_op *)op, &json, &error);
  kogge_op_free((kogge_op *)op);
  return made(status, json, error);
}

kg_made kg_build_request_start(kg_handle node, kg_handle queue, uint64_t tag, const char *spec,
                               size_t len) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_build_request_start((kogge_node *)node, text(spec, len), &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_made kg_build_wait_start(kg_handle node, kg_handle queue, uint64_t tag, const char *id,
                            size_t len) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_build_wait_start((kogge_node *)node, text(id, len), &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_made kg_build_finish(kg_handle op) {
  kogge_buffer *json = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_build_finish((kogge_op *)op, &json, &error);
  kogge_op_free((kogge_op *)op);
  return made(status, json, error);
}

kg_stat kg_store_stat(kg_handle node, const char *digest, size_t len) {
  kg_stat stat = {0};
  kogge_error *error = NULL;
  stat.status = kogge_store_stat((kogge_node *)node, text(digest, len), &stat.stored, &error);
  stat.error = (kg_handle)error;
  return stat;
}

kg_made kg_pin_start(kg_handle node, kg_handle queue, uint64_t tag, const char *digest, size_t len,
                     uint8_t pinned) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status = kogge_store_pin_start((kogge_node *)node, text(digest, len), pinned, &told,
                                              &op, &error);
  return started(status, op, error, has_ended);
}

kg_made kg_shrink_start(kg_handle node, kg_handle queue, uint64_t tag, uint64_t bytes_max) {
  uint8_t has_ended = 0;
  kogge_completion told = completion(queue, tag, &has_ended);
  kogge_op *op = NULL;
  kogge_error *error = NULL;
  kogge_status status =
      kogge_store_shrink_start((kogge_node *)node, bytes_max, &told, &op, &error);
  return started(status, op, error, has_ended);
}

kg_number kg_shrink_finish(kg_handle op) {
  kg_number freed = {0};
  kogge_error *error = NULL;
  freed.status = kogge_store_shrink_finish((kogge_op *)op, &freed.number, &error);
  freed.error = (kg_handle)error;
  kogge_op_free((kogge_op *)op);
  return freed;
}
