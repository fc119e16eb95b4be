package dev.kogge;

import java.io.UncheckedIOException;
import java.lang.ref.Reference;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** A query of the log, page by page. One thread at a time. */
public final class LogQuery extends Owned {
    private final boolean withJson;

    LogQuery(KoggeNode node, long cursor, boolean withJson) {
        super(node, cursor, Native::cursorFree);
        this.withJson = withJson;
    }

    /**
     * The next entries; none after the last. What the log gained since the first page is not seen.
     *
     * @throws KoggeException {@link KoggeStatus#CLOSED} if it or its node is closed
     */
    public List<LogEntry> nextPage() throws KoggeException {
        try {
            byte[] packed = Native.cursorNext(handle(), withJson);
            return packed == null ? List.of() : LogEntry.list(packed);
        } catch (KoggeException e) {
            throw meaning(e);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Where a later query goes on behind the page that was read last, in this process or another: the
     * value of {@code after=}. Empty after the last entry, and before the first page.
     *
     * @throws KoggeException {@link KoggeStatus#CLOSED} if it is closed
     */
    public String resumeToken() throws KoggeException {
        try {
            return Native.text(Native.cursorToken(handle()));
        } catch (KoggeException e) {
            throw meaning(e);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * The entries that follow, read page by page. Closing the stream closes the query. Failures are
     * {@link UncheckedIOException}s with a {@link KoggeException}.
     */
    public Stream<LogEntry> stream() {
        Iterator<LogEntry> entries = new Iterator<LogEntry>() {
            private Iterator<LogEntry> page = List.<LogEntry>of().iterator();
            private boolean isOver;

            @Override
            public boolean hasNext() {
                if (!page.hasNext() && !isOver) {
                    try {
                        page = nextPage().iterator();
                    } catch (KoggeException e) {
                        throw new UncheckedIOException(e);
                    }
                    isOver = !page.hasNext();
                }
                return page.hasNext();
            }

            @Override
            public LogEntry next() {
                if (!hasNext()) {
                    throw new NoSuchElementException();
                }
                return page.next();
            }
        };
        int traits = Spliterator.ORDERED | Spliterator.NONNULL | Spliterator.IMMUTABLE;
        return StreamSupport.stream(Spliterators.spliteratorUnknownSize(entries, traits), false)
                .onClose(this::close);
    }
}
