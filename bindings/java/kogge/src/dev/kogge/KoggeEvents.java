package dev.kogge;

import java.io.InterruptedIOException;
import java.lang.ref.Reference;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/** A subscription to what happens in a node. One thread at a time. */
public final class KoggeEvents extends Owned {
    /** How long a call waits before it looks whether its thread was interrupted. Unit: ms. */
    private static final long SLICE_MS = 50;

    KoggeEvents(KoggeNode node, long events) {
        super(node, events, Native::eventsFree);
    }

    /**
     * Waits for the next event, at most {@code limit}.
     *
     * @return empty if none came in time
     * @throws InterruptedIOException if the thread is interrupted while it waits
     * @throws KoggeException {@link KoggeStatus#END} when the node was closed and all events were read
     */
    public Optional<Event> next(Duration limit) throws InterruptedIOException, KoggeException {
        long end = System.nanoTime() + limit.toNanos();
        try {
            while (true) {
                long left = TimeUnit.NANOSECONDS.toMillis(end - System.nanoTime());
                long slice = Math.max(0, Math.min(left, SLICE_MS));
                byte[] packed = Native.eventsNext(handle(), slice);
                if (packed != null) {
                    return Optional.of(new Event(new Record(packed)));
                }
                if (Thread.currentThread().isInterrupted()) {
                    throw new InterruptedIOException("interrupted while an event was awaited");
                }
                if (left <= 0) {
                    return Optional.empty();
                }
            }
        } catch (KoggeException e) {
            throw meaning(e);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /** Something that happened. */
    public static final class Event {
        private final long number;
        private final long lost;
        private final long timeMs;
        private final String kind;
        private final String json;

        Event(Record record) {
            number = record.number();
            lost = record.number();
            timeMs = record.number();
            kind = record.text();
            json = record.text();
        }

        /** Its number in this node, from 1. */
        public long number() {
            return number;
        }

        /** Events between the one before and this one that this reader was too slow for. */
        public long lost() {
            return lost;
        }

        /** When it happened. Unit: milliseconds since 1970. */
        public long timeMs() {
            return timeMs;
        }

        /** Its kind, such as {@code committed}. */
        public String kind() {
            return kind;
        }

        /** All of it as JSON with the field {@code event}. */
        public String json() {
            return json;
        }

        @Override
        public String toString() {
            return json;
        }
    }
}
