package dev.kogge;

/** What a fetch came to. Digests are lower-case hex. */
public final class ArtifactInfo {
    private final String blake3;
    private final String sha256;
    private final long size;
    private final long logIndex;
    private final long bytesFromStore;
    private final long bytesFromPeers;
    private final Placement placement;

    /** How a file was made. */
    public enum Placement {
        /** Its bytes were copied. */
        COPIED,
        /** It shares its bytes with the store (copy on write). */
        REFLINK,
        /** It is another name of the store's file. */
        HARD_LINK
    }

    ArtifactInfo(Record record) {
        blake3 = record.digest();
        sha256 = record.digest();
        size = record.number();
        logIndex = record.number();
        bytesFromStore = record.number();
        bytesFromPeers = record.number();
        long placed = record.number();
        placement = placed == PlaceOption.REFLINK.flag ? Placement.REFLINK
                : placed == PlaceOption.HARD_LINK.flag ? Placement.HARD_LINK : Placement.COPIED;
    }

    /** Its BLAKE3 digest, by which it is stored and exchanged. */
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

    /** Index of its entry in the log, which every byte was verified against. */
    public long logIndex() {
        return logIndex;
    }

    /** Bytes that were stored here before. */
    public long bytesFromStore() {
        return bytesFromStore;
    }

    /** Bytes that came from peers, for this call or others at the same time. */
    public long bytesFromPeers() {
        return bytesFromPeers;
    }

    /** How the file of {@link KoggeNode#fetchTo} was made. */
    public Placement placement() {
        return placement;
    }
}
