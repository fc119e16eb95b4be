/* The transparency log: resolving, queries, proofs, waybills, and offline verification. */
#include "kogge_test.h"

static void names_resolve_to_their_entries(kogge_node *node) {
    artifact it = scene_artifact("small");
    kogge_name name = name_of(&it);
    kogge_rows *rows = NULL, *again = NULL;
    kogge_entry entry, other;
    kogge_buffer *json = NULL;
    const char *others[3];
    char absent[256], *text;
    size_t at;
    OK(kogge_resolve(node, &name, &rows, &problem));
    CHECK(kogge_rows_get_len(rows) == 1);
    OK(kogge_rows_get_entry(rows, 0, &entry));
    CHECK(entry.index == it.index && entry.size == it.size && entry.removed == UINT64_MAX);
    CHECK(entry.height != 0 && entry.time_ms > UINT64_C(1700000000000));
    CHECK(is_text(entry.kind, "add-artifact") && is_text(entry.purl, it.purl));
    CHECK(is_text(entry.file, it.file));
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_rows_get_entry(rows, 1, &other));
    OK(kogge_rows_take_json(rows, 0, &json, &problem));
    text = take_text(json);
    CHECK(strstr(text, it.sha256 + 7) != NULL && strstr(text, it.purl) != NULL);
    free(text);
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_rows_take_json(rows, SIZE_MAX, &json, &problem));

    others[0] = it.blake3;
    others[1] = it.sha256;
    others[2] = it.purl;
    for (at = 0; at < 3; at++) {
        name.what = str(others[at]);
        name.file = at == 2 ? str(it.file) : none();
        OK(kogge_resolve(node, &name, &again, &problem));
        CHECK(kogge_rows_get_len(again) == 1);
        OK(kogge_rows_get_entry(again, 0, &other));
        CHECK(other.index == entry.index);
        CHECK(memcmp(other.blake3, entry.blake3, 32) == 0);
        kogge_rows_free(again);
    }
    /* Without a file: all of the package. */
    name.file = none();
    OK(kogge_resolve(node, &name, &again, &problem));
    CHECK(kogge_rows_get_len(again) == 2);
    kogge_rows_free(again);
    kogge_rows_free(rows);

    name.file = str("absent.jar");
    IS(KOGGE_STATUS_NOT_FOUND, kogge_resolve(node, &name, &rows, &problem));
    field(scene_json, "absent", absent, sizeof absent);
    name.what = str(absent);
    name.file = none();
    IS(KOGGE_STATUS_NOT_FOUND, kogge_resolve(node, &name, &rows, &problem));
    name.what = str("blake3:short");
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_resolve(node, &name, &rows, &problem));
    name.what = none();
    IS(KOGGE_STATUS_INVALID_ARGUMENT, kogge_resolve(node, &name, &rows, &problem));
}

static void a_query_gives_every_entry_once_and_goes_on_from_a_token(kogge_node *node) {
    kogge_cursor *cursor = NULL, *later = NULL;
    kogge_rows *rows = NULL;
    kogge_buffer *token = NULL;
    kogge_entry entry;
    uint64_t indices[256];
    size_t all = 0, seen = 0, page = 0, at;
    char query[512], *text;
    kogge_status status;
    OK(kogge_log_query_open(node, str("kind=add-artifact order=oldest"), &cursor, &problem));
    OK(kogge_cursor_take_token(cursor, &token, &problem));
    CHECK(kogge_buffer_get_bytes(token).len == 0); /* Nothing was asked for yet. */
    kogge_buffer_free(token);
    while ((status = kogge_cursor_next(cursor, LIMIT, &rows, NULL)) == KOGGE_STATUS_OK) {
        for (at = 0; at < kogge_rows_get_len(rows); at++) {
            OK(kogge_rows_get_entry(rows, at, &entry));
            CHECK(all < 256 && (all == 0 || indices[all - 1] < entry.index));
            CHECK(is_text(entry.kind, "add-artifact"));
            indices[all++] = entry.index;
        }
        kogge_rows_free(rows);
    }
    IS(KOGGE_STATUS_END, status);
    IS(KOGGE_STATUS_END, kogge_cursor_next(cursor, LIMIT, &rows, &problem));
    kogge_cursor_free(cursor);
    CHECK(all >= 8);

    /* Three at a time, by a new cursor for every page. */
    strcpy(query, "kind=add-artifact order=oldest limit=3");
    for (;;) {
        OK(kogge_log_query_open(node, str(query), &later, &problem));
        status = kogge_cursor_next(later, LIMIT, &rows, &problem);
        if (status == KOGGE_STATUS_END) {
            IS(KOGGE_STATUS_END, status);
            kogge_cursor_free(later);
            break;
        }
        OK(status);
        CHECK(kogge_rows_get_len(rows) <= 3);
        for (at = 0; at < kogge_rows_get_len(rows); at++) {
            OK(kogge_rows_get_entry(rows, at, &entry));
            CHECK(seen < all && entry.index == indices[seen++]);
        }
        kogge_rows_free(rows);
        OK(kogge_cursor_take_token(later, &token, &problem));
        kogge_cursor_free(later);
        text = take_text(token);
        page++;
        snprintf(query, sizeof query, "kind=add-artifact order=oldest limit=3 after=%.300s", text);
        at = strlen(text);
        free(text);
        if (at == 0) {
            break;
        }
    }
    CHECK(seen == all && page >= 3);

    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_log_query_open(node, str("colour=red"), &cursor, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_log_query_open(node, str("limit=100000"), &cursor, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_log_query_open(node, str("after=zzz"), &cursor, &problem));
}

static kogge_bytes view(kogge_buffer *buffer) { return kogge_buffer_get_bytes(buffer); }

static void waybills_prove_what_they_say_and_nothing_else(kogge_node *node) {
    artifact it = scene_artifact("small"), other = scene_artifact("tiny");
    kogge_buffer *waybill = NULL, *policy = NULL, *note = NULL, *proof = NULL;
    kogge_rows *rows = NULL;
    kogge_entry entry;
    char *file, *genesis, *stored, *scene_policy, path[1024], *bytes, *text;
    kogge_bytes artifact_bytes = bytes_of(it.path, &file), trust, bill, kept, scene_trust;
    size_t at, len;
    UNTIL(kogge_log_waybill(node, it.index, &waybill, NULL) == KOGGE_STATUS_OK);
    OK(kogge_log_policy(node, &policy, &problem));
    OK(kogge_log_checkpoint(node, &note, &problem));
    CHECK(kogge_buffer_get_bytes(note).len != 0);
    kogge_buffer_free(note);
    OK(kogge_log_prove(node, it.index, &proof, &problem));
    text = take_text(proof);
    CHECK(strstr(text, "\"root\"") != NULL && strstr(text, "\"path\"") != NULL);
    free(text);
    IS(KOGGE_STATUS_NOT_FOUND, kogge_log_waybill(node, UINT64_MAX, &proof, &problem));
    IS(KOGGE_STATUS_NOT_FOUND, kogge_log_prove(node, 1000000, &proof, &problem));

    field(scene_json, "genesis", path, sizeof path);
    trust = bytes_of(path, &genesis);
    kept = bytes_of(it.waybill, &stored);
    field(scene_json, "policy", path, sizeof path);
    scene_trust = bytes_of(path, &scene_policy);
    bill = view(waybill);
    OK(kogge_verify_file(str(it.path), bill, KOGGE_TRUST_POLICY, view(policy), &rows, &problem));
    OK(kogge_rows_get_entry(rows, 0, &entry));
    CHECK(kogge_rows_get_len(rows) == 1 && entry.index == it.index && entry.size == it.size);
    CHECK(is_text(entry.purl, it.purl));
    kogge_rows_free(rows);
    OK(kogge_verify_file(str(it.path), kept, KOGGE_TRUST_GENESIS, trust, NULL, &problem));
    OK(kogge_verify_bytes(artifact_bytes, bill, KOGGE_TRUST_GENESIS, trust, NULL, &problem));
    OK(kogge_verify_bytes(artifact_bytes, kept, KOGGE_TRUST_POLICY, scene_trust, NULL, &problem));

    /* Another file, no file, another kind of trust. */
    IS(KOGGE_STATUS_UNVERIFIED, kogge_verify_file(str(other.path), bill, KOGGE_TRUST_POLICY,
                                                  view(policy), &rows, &problem));
    IS(KOGGE_STATUS_NOT_FOUND, kogge_verify_file(str(in_folder("absent")), bill,
                                                 KOGGE_TRUST_POLICY, view(policy), &rows,
                                                 &problem));
    IS(KOGGE_STATUS_IO, kogge_verify_file(str(test_folder), bill, KOGGE_TRUST_POLICY,
                                          view(policy), &rows, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_verify_bytes(artifact_bytes, bill, 3, view(policy), &rows, &problem));
    IS(KOGGE_STATUS_INVALID_ARGUMENT,
       kogge_verify_bytes(artifact_bytes, bill, KOGGE_TRUST_GENESIS, view(policy), &rows,
                          &problem));

    /* One bit of the file, at both ends and in between. */
    for (at = 0; at < artifact_bytes.len; at += artifact_bytes.len / 3) {
        file[at] ^= 1;
        IS(KOGGE_STATUS_UNVERIFIED, kogge_verify_bytes(artifact_bytes, bill, KOGGE_TRUST_POLICY,
                                                       view(policy), NULL, &problem));
        file[at] ^= 1;
    }
    /* One bit of every byte of the waybill. */
    len = bill.len;
    bytes = malloc(len);
    memcpy(bytes, bill.ptr, len);
    for (at = 0; at < len; at++) {
        kogge_bytes damaged;
        damaged.ptr = (const uint8_t *)bytes;
        damaged.len = len;
        bytes[at] ^= 1;
        IS(KOGGE_STATUS_UNVERIFIED, kogge_verify_bytes(artifact_bytes, damaged, KOGGE_TRUST_POLICY,
                                                       view(policy), NULL, &problem));
        bytes[at] ^= 1;
        damaged.len = at;
        IS(KOGGE_STATUS_UNVERIFIED, kogge_verify_bytes(artifact_bytes, damaged, KOGGE_TRUST_POLICY,
                                                       view(policy), NULL, &problem));
    }
    free(bytes);
    /* One bit of the policy's keys: it is malformed then, or trusts others. */
    bytes = malloc(view(policy).len + 1);
    len = view(policy).len;
    memcpy(bytes, view(policy).ptr, len);
    bytes[len] = 0;
    text = strstr(bytes, "+");
    CHECK(text != NULL);
    for (; *text != '\n' && *text != 0; text++) {
        kogge_bytes damaged;
        kogge_status status;
        damaged.ptr = (const uint8_t *)bytes;
        damaged.len = len;
        *text ^= 1;
        status = kogge_verify_bytes(artifact_bytes, damaged, KOGGE_TRUST_POLICY, damaged, NULL,
                                    &problem);
        IS(KOGGE_STATUS_UNVERIFIED, status); /* A policy is no waybill. */
        status = kogge_verify_bytes(artifact_bytes, bill, KOGGE_TRUST_POLICY, damaged, NULL, NULL);
        CHECK(status == KOGGE_STATUS_UNVERIFIED || status == KOGGE_STATUS_INVALID_ARGUMENT);
        *text ^= 1;
    }
    free(bytes);
    kogge_buffer_free(waybill);
    kogge_buffer_free(policy);
    free(file);
    free(genesis);
    free(stored);
    free(scene_policy);
}

int main(int argc, char **argv) {
    kogge_node *node;
    begin(argc, argv);
    node = open_scene("data");
    names_resolve_to_their_entries(node);
    a_query_gives_every_entry_once_and_goes_on_from_a_token(node);
    waybills_prove_what_they_say_and_nothing_else(node);
    close_node(node);
    return finish();
}
