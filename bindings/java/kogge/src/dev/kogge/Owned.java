package dev.kogge;

import java.io.Closeable;
import java.lang.ref.Cleaner;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongConsumer;

/** An object of the library that Java owns: freed by {@code close}, or when it is forgotten. */
abstract class Owned implements Closeable {
    static final Cleaner CLEANER = Cleaner.create();

    /** The node lives as long as what was got from it. */
    final KoggeNode node;
    private final AtomicLong handle;
    private final Cleaner.Cleanable cleanable;

    Owned(KoggeNode node, long handle, LongConsumer free) {
        this.node = node;
        this.handle = new AtomicLong(handle);
        AtomicLong shared = this.handle;
        cleanable = CLEANER.register(this, () -> {
            long number = shared.getAndSet(0);
            if (number != 0) {
                free.accept(number);
            }
        });
    }

    /** The handle; it may become stale while it is used, which the library notices. */
    final long handle() throws KoggeException {
        long number = handle.get();
        if (number == 0) {
            throw KoggeException.closed();
        }
        return number;
    }

    final boolean isOpen() {
        return handle.get() != 0;
    }

    /** What a call that used the handle failed with, if it was closed meanwhile. */
    final KoggeException meaning(KoggeException e) {
        return isOpen() ? e : KoggeException.closed();
    }

    /** Frees it. Calls that wait inside end. Does nothing the second time. */
    @Override
    public void close() {
        cleanable.clean();
    }
}
