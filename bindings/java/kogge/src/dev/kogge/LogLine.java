package dev.kogge;

import java.lang.System.Logger.Level;
import java.util.function.Consumer;

/** A line of a node's log. */
public final class LogLine {
    /** By the library's numbers. */
    private static final Level[] LEVELS = {
        Level.OFF, Level.ERROR, Level.WARNING, Level.INFO, Level.DEBUG, Level.TRACE
    };

    private final Level level;
    private final String target;
    private final String message;

    private LogLine(Record record) {
        level = LEVELS[(int) record.number()];
        target = record.text();
        message = record.text();
    }

    /** How much it matters: from ERROR to TRACE. */
    public Level level() {
        return level;
    }

    /** The part of the library that wrote it, such as {@code kogge::node}. */
    public String target() {
        return target;
    }

    /** What it says: a sentence, then {@code name=value}. */
    public String message() {
        return message;
    }

    @Override
    public String toString() {
        return level + " " + target + " " + message;
    }

    /** The library's number for all lines up to a level. */
    static int number(Level level) {
        int number = 0;
        while (number + 1 < LEVELS.length
                && (level == Level.ALL || LEVELS[number].getSeverity() != level.getSeverity())) {
            number++;
        }
        return number;
    }

    /** Starts the thread that hands over the lines of a log until its end. */
    static void read(long log, Consumer<? super LogLine> consumer) {
        Thread thread = new Thread(() -> {
            for (byte[] packed; (packed = Native.logNext(log)) != null; ) {
                Record record = new Record(packed);
                for (long left = record.number(); left > 0; left--) {
                    hand(new LogLine(record), consumer);
                }
            }
        }, "kogge-log");
        thread.setDaemon(true);
        thread.start();
    }

    private static void hand(LogLine line, Consumer<? super LogLine> consumer) {
        try {
            consumer.accept(line);
        } catch (RuntimeException | Error e) {
            Thread thread = Thread.currentThread();
            try {
                thread.getUncaughtExceptionHandler().uncaughtException(thread, e);
            } catch (RuntimeException | Error again) {
                // Nobody is left to tell.
                return;
            }
        }
    }
}
