// What the C files here share; Go does not see it.

#ifndef KOGGE_GO_SHIM_PRIVATE_H
#define KOGGE_GO_SHIM_PRIVATE_H

#include "shim.h"

static inline kogge_str text(const char *ptr, size_t len) { return (kogge_str){ptr, len}; }

static inline kogge_bytes bytes(const uint8_t *ptr, size_t len) { return (kogge_bytes){ptr, len}; }

static inline kogge_completion completion(kg_handle queue, uint64_t tag, uint8_t *has_ended) {
  return (kogge_completion){.struct_size = sizeof(kogge_completion),
                            .queue = (kogge_queue *)queue,
                            .tag = tag,
                            .ended_out = has_ended};
}

static inline kg_made made(kogge_status status, void *handle, kogge_error *error) {
  return (kg_made){status, KOGGE_STATUS_AGAIN, (kg_handle)handle, (kg_handle)error};
}

static inline kg_made started(kogge_status status, kogge_op *op, kogge_error *error, uint8_t has_ended) {
  kogge_status end = has_ended ? kogge_op_get_status(op) : KOGGE_STATUS_AGAIN;
  return (kg_made){status, end, (kg_handle)op, (kg_handle)error};
}

#endif
