package dev.kogge.maven;

import javax.inject.Inject;
import javax.inject.Named;
import javax.inject.Singleton;
import org.apache.maven.AbstractMavenLifecycleParticipant;
import org.apache.maven.execution.MavenSession;

/** Ends the node with the build. */
@Named("kogge")
@Singleton
public final class KoggeLifecycle extends AbstractMavenLifecycleParticipant {
    private final KoggeSource source;

    @Inject
    KoggeLifecycle(KoggeSource source) {
        this.source = source;
    }

    @Override
    public void afterSessionEnd(MavenSession session) {
        source.finish();
    }
}
