package dev.kogge.maven;

import dev.kogge.KoggeException;
import java.io.IOException;

/** Why something failed, for people. */
final class Reason {
    private Reason() {}

    static String of(Throwable failure) {
        // Others say no more than a path, or nothing.
        boolean isSentence = failure instanceof KoggeException
                || failure instanceof UnsatisfiedLinkError
                || failure.getClass() == IOException.class;
        return isSentence && failure.getMessage() != null ? failure.getMessage() : failure.toString();
    }
}
