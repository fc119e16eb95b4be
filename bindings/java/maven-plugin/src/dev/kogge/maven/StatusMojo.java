package dev.kogge.maven;

import java.io.IOException;
import java.time.Duration;

/** {@code kogge:status}. */
public final class StatusMojo extends NodeMojo {
    @Override
    boolean needsLive() {
        return false;
    }

    @Override
    void run(Settings settings, EmbeddedNode node) throws IOException, InterruptedException {
        getLog().info("data folder: " + node.folder());
        getLog().info(node.isLive(Duration.ZERO) ? "live: knows what the network knows"
                : "not live: no peer answered within " + settings.liveLimit().getSeconds() + " s");
        getLog().info(node.status());
    }
}
