package dev.kogge;

/** A stored artifact. Digests are lower-case hex. */
public final class StoredInfo {
    private final String blake3;
    private final String sha256;
    private final long size;
    private final boolean isPinned;

    StoredInfo(Record record) {
        blake3 = record.digest();
        sha256 = record.digest();
        size = record.number();
        isPinned = record.number() != 0;
    }

    /** Its BLAKE3 digest. */
    public String blake3() {
        return blake3;
    }

    /** Its SHA-256 digest. */
    public String sha256() {
        return sha256;
    }

    /** Its length. Unit: bytes. */
    public long size() {
        return size;
    }

    /** Whether it is exempt from eviction. */
    public boolean isPinned() {
        return isPinned;
    }
}
