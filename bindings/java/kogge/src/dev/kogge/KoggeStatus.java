package dev.kogge;

/** What a call came to, as a name. The numbers are those of {@code kogge.h} and never change. */
public enum KoggeStatus {
    /** The call succeeded. */
    OK(0),
    /** An argument is out of range or malformed. */
    INVALID_ARGUMENT(1),
    /** An object was freed already. */
    BAD_HANDLE(2),
    /** The classes were made for another major version of the library. */
    ABI_MISMATCH(3),
    /** This version does not know what is asked for. */
    UNSUPPORTED(4),
    /** The call would wait for itself, such as {@code join} on the thread that completes futures. */
    WOULD_DEADLOCK(5),
    /** Nothing there yet: ask again. */
    AGAIN(6),
    /** Nothing follows. */
    END(7),
    /** The operation was cancelled. */
    CANCELLED(10),
    /** The time was up first. */
    TIMED_OUT(11),
    /** The node is closed, is closing, or has stopped by itself. */
    CLOSED(12),
    /** Too much of this is going on, or the data directory is in use by another node. */
    BUSY(13),
    /** The log, the store, or the node does not have it. */
    NOT_FOUND(20),
    /** It is there already. */
    EXISTS(21),
    /** The owner's configuration or the system does not allow it. */
    DENIED(22),
    /** It does not fit: a quota, a limit of the request, or the disk. */
    QUOTA(23),
    /** Stored data is damaged. */
    CORRUPT(30),
    /** Something is not what the log, a signature, or a digest says. */
    UNVERIFIED(31),
    /** The file system or the operating system refused. */
    IO(40),
    /** No peer or upstream that is reachable has it, or none answers. */
    NETWORK(41),
    /** A callback of the host reported a failure. */
    HOST(50),
    /** A bug in the library; the node goes on. */
    PANIC(99),
    /** A number that these classes do not know, from a newer library. */
    UNKNOWN(-1);

    private final int number;

    KoggeStatus(int number) {
        this.number = number;
    }

    /** The number in {@code kogge.h}; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    /** The status with a number. */
    public static KoggeStatus of(int number) {
        for (KoggeStatus status : values()) {
            if (status.number == number) {
                return status;
            }
        }
        return UNKNOWN;
    }
}
