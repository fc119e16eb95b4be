package dev.kogge;

import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;

/**
 * An entry of the log. What its kind does not have is empty or zero. Digests are lower-case hex.
 */
public final class LogEntry {
    private final long index;
    private final long height;
    private final long timeMs;
    private final long removed;
    private final long size;
    private final String blake3;
    private final String sha256;
    private final String kind;
    private final String purl;
    private final String file;
    private final String mediaType;
    private final String json;

    private LogEntry(Record record) {
        index = record.number();
        height = record.number();
        timeMs = record.number();
        removed = record.number();
        size = record.number();
        blake3 = record.digest();
        sha256 = record.digest();
        kind = record.text();
        purl = record.text();
        file = record.text();
        mediaType = record.text();
        json = record.text();
    }

    static List<LogEntry> list(byte[] packed) {
        Record record = new Record(packed);
        int count = Math.toIntExact(record.number());
        List<LogEntry> entries = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            entries.add(new LogEntry(record));
        }
        return entries;
    }

    /** Its index. */
    public long index() {
        return index;
    }

    /** The block that holds it; 0 if that is not known (offline verification). */
    public long height() {
        return height;
    }

    /** Time of that block. */
    public Instant time() {
        return Instant.ofEpochMilli(timeMs);
    }

    /** Index of the entry that withdrew it. */
    public OptionalLong removedBy() {
        return removed == -1 ? OptionalLong.empty() : OptionalLong.of(removed);
    }

    /** Its kind, such as {@code add-artifact}. */
    public String kind() {
        return kind;
    }

    /** Package URL of the artifact. */
    public String purl() {
        return purl;
    }

    /** File name of the artifact. */
    public String file() {
        return file;
    }

    /** Media type of the artifact. */
    public String mediaType() {
        return mediaType;
    }

    /** Length of the artifact. Unit: bytes. */
    public long size() {
        return size;
    }

    /** BLAKE3 digest of the artifact. */
    public String blake3() {
        return blake3;
    }

    /** SHA-256 digest of the artifact. */
    public String sha256() {
        return sha256;
    }

    /** All of it as JSON; empty from a query that did not ask for it. */
    public String json() {
        return json;
    }

    @Override
    public String toString() {
        return index + " " + kind + (purl.isEmpty() ? "" : " " + purl + " " + file);
    }
}
