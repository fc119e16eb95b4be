package dev.kogge.maven;

import javax.inject.Inject;
import javax.inject.Named;
import javax.inject.Singleton;
import org.apache.maven.eventspy.AbstractEventSpy;

/**
 * Ends the node where Maven tells no participant of the end: if it refused the projects, of which it
 * may have downloaded parents. In other builds the node has ended before.
 */
@Named("kogge")
@Singleton
public final class KoggeSpy extends AbstractEventSpy {
    private final KoggeSource source;

    @Inject
    KoggeSpy(KoggeSource source) {
        this.source = source;
    }

    @Override
    public void close() {
        source.finish();
    }
}
