package dev.kogge;

import java.nio.file.Path;

/** What needs no node. */
public final class Kogge {
    /** Whom to believe when a waybill is checked. */
    public static final class Trust {
        private final int kind;
        private final byte[] document;

        private Trust(int kind, byte[] document) {
            this.kind = kind;
            this.document = document.clone();
        }

        /** The keys in a policy (c2sp.org/tlog-policy), such as {@link KoggeNode#policy} gives. */
        public static Trust policy(byte[] policy) {
            return new Trust(1, policy);
        }

        /** The first authorized nodes of the network with a genesis, and whom they admitted. */
        public static Trust genesis(byte[] genesis) {
            return new Trust(2, genesis);
        }
    }

    private Kogge() {}

    /**
     * The library's version.
     *
     * @throws UnsatisfiedLinkError if there is no native library for this machine
     */
    public static String version() {
        return Native.text(Native.version());
    }

    /**
     * Checks, without a node or a network, that a file is the artifact that a waybill is about, and
     * that its entry is in a log that {@code trust} stands for.
     *
     * @return the entry
     * @throws KoggeException {@link KoggeStatus#UNVERIFIED} if anything does not hold
     */
    public static LogEntry verify(Path file, byte[] waybill, Trust trust) throws KoggeException {
        byte[] path = Native.utf8(file.toAbsolutePath().toString());
        byte[] packed = Native.verifyFile(path, waybill, trust.kind, trust.document);
        return LogEntry.list(packed).get(0);
    }

    /**
     * As for a file, for bytes in memory.
     *
     * @return the entry
     * @throws KoggeException {@link KoggeStatus#UNVERIFIED} if anything does not hold
     */
    public static LogEntry verify(byte[] artifact, byte[] waybill, Trust trust)
            throws KoggeException {
        byte[] packed = Native.verifyBytes(artifact, waybill, trust.kind, trust.document);
        return LogEntry.list(packed).get(0);
    }

    /** Objects of the library that are alive in this process: 0 when everything was closed. */
    public static long liveHandles() {
        return Native.liveHandles();
    }
}
