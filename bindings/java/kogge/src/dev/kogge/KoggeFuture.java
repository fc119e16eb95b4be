package dev.kogge;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;

/**
 * The end of an operation of a node. Cancelling it, or completing it by other means
 * ({@code orTimeout}), cancels the operation.
 *
 * <p>What needs no waiting, such as a small artifact that is stored, is done by the call that gives the
 * future, which is complete then. All others are completed by one thread per node. What depends on them
 * without {@code Async} runs there too and must not wait for other futures of the node: that is
 * {@link KoggeStatus#WOULD_DEADLOCK}.
 */
public final class KoggeFuture<T> extends CompletableFuture<T> {
    /** Takes the result of an operation that ended. */
    interface Finish<T> {
        T finish(long op) throws KoggeException;
    }

    /** What the end of an operation means for the thread that completes futures. */
    enum Then { GO_ON, STOP, STOP_ON_FAILURE }

    /** How far an operation is. Unit: bytes for a fetch; zeros if that is not known. */
    public static final class Progress {
        private final long done;
        private final long total;

        Progress(long done, long total) {
            this.done = done;
            this.total = total;
        }

        /** Units done. */
        public long done() {
            return done;
        }

        /** Units in total; 0 if that is not known. */
        public long total() {
            return total;
        }

        @Override
        public String toString() {
            return done + "/" + total;
        }
    }

    private final Pump pump;
    private final Finish<T> finish;
    private final Consumer<T> release;
    private final Then then;
    /** Kept from being collected while the operation runs. */
    private final Object owner;
    private volatile long op;
    private volatile Progress last = new Progress(0, 0);

    /** {@code release} frees a result that nobody waits for any more. */
    KoggeFuture(Pump pump, Object owner, Finish<T> finish, Consumer<T> release, Then then) {
        this.pump = pump;
        this.owner = owner;
        this.finish = finish;
        this.release = release;
        this.then = then;
    }

    /** A future that depends on another. */
    private KoggeFuture(Pump pump) {
        this(pump, null, null, null, Then.GO_ON);
    }

    /**
     * Waits for the result. An interruption cancels the operation.
     *
     * @throws KoggeException why there is none
     * @throws InterruptedException if this thread is interrupted
     */
    public T await() throws KoggeException, InterruptedException {
        try {
            return get();
        } catch (ExecutionException e) {
            throw failure(e);
        } catch (InterruptedException e) {
            cancel(true);
            throw e;
        }
    }

    /**
     * Waits for the result, at most {@code limit}; then the operation is cancelled.
     *
     * @throws KoggeException why there is none; {@link KoggeStatus#TIMED_OUT} if the time was up
     * @throws InterruptedException if this thread is interrupted
     */
    public T await(Duration limit) throws KoggeException, InterruptedException {
        try {
            return get(limit.toMillis(), TimeUnit.MILLISECONDS);
        } catch (ExecutionException e) {
            throw failure(e);
        } catch (TimeoutException e) {
            cancel(true);
            throw new KoggeException(KoggeStatus.TIMED_OUT, "not within " + limit);
        } catch (InterruptedException e) {
            cancel(true);
            throw e;
        }
    }

    /** How far the operation is. */
    public Progress progress() {
        long op = this.op;
        if (op != 0) {
            long[] numbers = new long[2];
            try {
                Native.opProgress(op, numbers);
                last = new Progress(numbers[0], numbers[1]);
            } catch (KoggeException e) {
                // It has ended: what was known last stays.
            }
        }
        return last;
    }

    @Override
    public boolean cancel(boolean mayInterruptIfRunning) {
        return stopped(super.cancel(mayInterruptIfRunning));
    }

    @Override
    public boolean complete(T value) {
        return stopped(super.complete(value));
    }

    @Override
    public boolean completeExceptionally(Throwable failure) {
        return stopped(super.completeExceptionally(failure));
    }

    @Override
    public T get() throws InterruptedException, ExecutionException {
        if (wouldDeadlock()) {
            throw new ExecutionException(deadlock());
        }
        return super.get();
    }

    @Override
    public T get(long timeout, TimeUnit unit)
            throws InterruptedException, ExecutionException, TimeoutException {
        if (wouldDeadlock()) {
            throw new ExecutionException(deadlock());
        }
        return super.get(timeout, unit);
    }

    @Override
    public T join() {
        if (wouldDeadlock()) {
            throw new CompletionException(deadlock());
        }
        return super.join();
    }

    @Override
    public <U> CompletableFuture<U> newIncompleteFuture() {
        return new KoggeFuture<>(pump);
    }

    private boolean wouldDeadlock() {
        return pump.isHere() && !isDone();
    }

    private static KoggeException deadlock() {
        return new KoggeException(KoggeStatus.WOULD_DEADLOCK,
                "this thread completes the futures of the node; use thenCompose or an Async method");
    }

    static KoggeException failure(ExecutionException e) {
        if (e.getCause() instanceof KoggeException) {
            return new KoggeException((KoggeException) e.getCause());
        }
        KoggeException failure = new KoggeException(KoggeStatus.HOST, String.valueOf(e.getCause()));
        failure.initCause(e.getCause());
        return failure;
    }

    /** Somebody else completed it: the operation need not go on. */
    private boolean stopped(boolean isFirst) {
        long op = this.op;
        if (isFirst && op != 0) {
            Native.opCancel(op);
        }
        return isFirst;
    }

    /** The operation runs. */
    void started(long op) {
        this.op = op;
        if (isDone()) {
            // It was cancelled before it was known; if it has ended, this does nothing.
            Native.opCancel(op);
        }
    }

    /** The operation has ended. Called once, by the pump or by who started it. */
    void ended(long op) {
        this.op = op;
        T value = null;
        Throwable failure = null;
        try {
            // A result that nobody waits for is freed with the operation.
            if (!isDone()) {
                progress();
                value = finish.finish(op);
            }
        } catch (KoggeException | RuntimeException | Error e) {
            failure = e;
        } finally {
            Native.opFree(op);
        }
        if (then == Then.STOP || then == Then.STOP_ON_FAILURE && value == null) {
            pump.stop();
        }
        if (failure != null) {
            super.completeExceptionally(failure);
        } else if (!super.complete(value) && value != null && release != null) {
            release.accept(value);
        }
    }

    /** It could not start, or its node is gone. */
    void refused(Throwable failure) {
        super.completeExceptionally(failure);
    }
}
