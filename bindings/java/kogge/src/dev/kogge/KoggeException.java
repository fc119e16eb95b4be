package dev.kogge;

import java.io.IOException;
import java.util.List;

/** Why a call did not work: a status, a message, and what the library knows besides. */
public final class KoggeException extends IOException {
    private static final long serialVersionUID = 1;

    private final int number;
    private final int osCode;
    private final String detail;
    private final String causes;

    /** Called by the native methods. {@code causes} are divided by line feeds. */
    KoggeException(int number, String message, int osCode, String detail, String causes) {
        super(message);
        this.number = number;
        this.osCode = osCode;
        this.detail = detail;
        this.causes = causes;
    }

    KoggeException(KoggeStatus status, String message) {
        this(status.number(), message, 0, "{}", "");
    }

    /** The same failure, thrown by this thread: {@code cause} was made by the one that learned of it. */
    KoggeException(KoggeException cause) {
        this(cause.number, cause.getMessage(), cause.osCode, cause.detail, cause.causes);
        initCause(cause);
    }

    static KoggeException closed() {
        return new KoggeException(KoggeStatus.CLOSED, "it is closed");
    }

    /** What went wrong. */
    public KoggeStatus status() {
        return KoggeStatus.of(number);
    }

    /** The number of the status, also of one that {@link KoggeStatus} does not know. */
    public int number() {
        return number;
    }

    /** The system's error number; 0 if there is none. */
    public int osCode() {
        return osCode;
    }

    /** What programs may want to know: a JSON object, <code>{}</code> if there is nothing. */
    public String detail() {
        return detail;
    }

    /** The causes, nearest first. */
    public List<String> causes() {
        return causes.isEmpty() ? List.of() : List.of(causes.split("\n"));
    }

    /** Whether the same call may succeed later without anything being mended. */
    public boolean isRetryable() {
        return Native.isRetryable(number);
    }
}
