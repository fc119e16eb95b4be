package dev.kogge;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;

/**
 * Completes the futures of one node: a thread that waits for the ends of operations, unless they ended
 * in the call that started them. No thread of the library ever calls Java.
 */
final class Pump {
    /** Starts an operation; {@code end} as in {@link Native}. */
    interface Start {
        long start(long[] end) throws KoggeException;
    }

    /** Items that are taken at once. */
    private static final int ITEMS = 64;

    private static final int ITEM_NUMBERS = 3;

    private final long queue;
    private final Thread thread;
    private final AtomicLong tags = new AtomicLong();
    private final ConcurrentHashMap<Long, KoggeFuture<?>> running = new ConcurrentHashMap<>();
    private volatile boolean isOver;

    Pump() throws KoggeException {
        queue = Native.queueNew();
        thread = new Thread(this::run, "kogge-completions");
        thread.setDaemon(true);
        thread.start();
    }

    /** Starts an operation. Why it cannot start is told by the future. */
    <T> KoggeFuture<T> start(Object owner, Start start, KoggeFuture.Finish<T> finish,
            Consumer<T> release, KoggeFuture.Then then) {
        KoggeFuture<T> future = new KoggeFuture<>(this, owner, finish, release, then);
        long tag = tags.incrementAndGet();
        running.put(tag, future);
        try {
            long[] end = {queue, tag, 0};
            long op = start.start(end);
            if (end[2] != 0) {
                running.remove(tag);
                future.ended(op);
            } else {
                future.started(op);
            }
        } catch (KoggeException | RuntimeException | Error e) {
            running.remove(tag);
            future.refused(e);
        }
        return future;
    }

    /** Whether the caller is the thread that completes futures. */
    boolean isHere() {
        return Thread.currentThread() == thread;
    }

    /** No end will be told any more. */
    void stop() {
        isOver = true;
        Native.queueFree(queue);
        running.values().forEach(it -> it.refused(KoggeException.closed()));
        running.clear();
    }

    private void run() {
        long[] items = new long[ITEMS * ITEM_NUMBERS];
        try {
            while (!isOver) {
                int count = Native.queueNext(queue, Native.FOREVER, items);
                for (int i = 0; i < count; i++) {
                    KoggeFuture<?> future = running.remove(items[i * ITEM_NUMBERS]);
                    long op = items[i * ITEM_NUMBERS + 1];
                    if (future == null) {
                        Native.opFree(op);
                    } else {
                        future.ended(op);
                    }
                }
                if (count < 0) {
                    return;
                }
            }
        } catch (KoggeException e) {
            running.values().forEach(it -> it.refused(e));
        }
    }
}
