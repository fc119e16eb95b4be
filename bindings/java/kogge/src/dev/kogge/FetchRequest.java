package dev.kogge;

import java.time.Duration;
import java.util.Objects;

/** What to fetch, how much of it, and for how long. */
public final class FetchRequest {
    private final String what;
    private String file = "";
    private final long[] numbers = new long[4];

    private FetchRequest(String what) {
        this.what = Objects.requireNonNull(what);
    }

    /**
     * An artifact, as people name it: a digest such as {@code sha256:} and hex,
     * {@code group:artifact:version}, an image such as {@code alpine:3.20}, or a package URL.
     */
    public static FetchRequest of(String what) {
        return new FetchRequest(what);
    }

    /** The file of the package; not needed if there is only one. */
    public FetchRequest file(String file) {
        this.file = Objects.requireNonNull(file);
        return this;
    }

    /**
     * The bytes that are wanted, for {@link KoggeNode#fetchBytes}: {@code length} of them from
     * {@code offset} on; a length of 0 means up to the end.
     */
    public FetchRequest range(long offset, long length) {
        if (offset < 0 || length < 0) {
            throw new IllegalArgumentException("a negative range");
        }
        numbers[0] = offset;
        numbers[1] = length;
        return this;
    }

    /** The work ends with {@link KoggeStatus#TIMED_OUT} after this long. */
    public FetchRequest deadline(Duration limit) {
        numbers[2] = Math.max(1, limit.toMillis());
        return this;
    }

    /**
     * Larger artifacts end with {@link KoggeStatus#QUOTA}. Unit: bytes; by default 256 MiB for
     * {@link KoggeNode#fetchBytes} and no limit for others.
     */
    public FetchRequest maxBytes(long bytes) {
        if (bytes < 0) {
            throw new IllegalArgumentException("a negative number of bytes");
        }
        numbers[3] = bytes;
        return this;
    }

    byte[] what() {
        return Native.utf8(what);
    }

    byte[] fileName() {
        return Native.utf8(file);
    }

    long[] numbers() {
        return numbers.clone();
    }
}
