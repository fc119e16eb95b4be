package dev.kogge.maven;

import dev.kogge.LogEntry;
import java.io.IOException;
import java.util.Collection;
import java.util.List;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.maven.artifact.Artifact;
import org.apache.maven.execution.MavenSession;
import org.apache.maven.plugin.AbstractMojo;
import org.apache.maven.plugin.MojoExecutionException;
import org.apache.maven.plugin.MojoFailureException;
import org.apache.maven.project.MavenProject;

/** A goal that asks a node, with the settings of the extension. */
abstract class NodeMojo extends AbstractMojo {
    /** The build; set by Maven. */
    protected MavenSession session;

    /** What the goal does. */
    abstract void run(Settings settings, EmbeddedNode node)
            throws IOException, InterruptedException, MojoFailureException;

    /** Whether the goal makes sense only if the node knows what the network knows. */
    boolean needsLive() {
        return true;
    }

    @Override
    public final void execute() throws MojoExecutionException, MojoFailureException {
        try {
            Settings settings = Settings.of(session.getRepositorySession());
            EmbeddedNode node = EmbeddedNode.open(settings);
            try {
                if (!node.isLive(settings.liveLimit()) && needsLive()) {
                    throw new MojoExecutionException("no peer answered within "
                            + settings.liveLimit().getSeconds() + " s; see kogge.liveSeconds");
                }
                run(settings, node);
            } finally {
                node.close();
            }
        } catch (IOException | RuntimeException | LinkageError e) {
            throw new MojoExecutionException("kogge: " + Reason.of(e), e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new MojoExecutionException("interrupted", e);
        }
    }

    /** The resolved dependencies of all modules, without the modules; sorted by path. */
    final Collection<Artifact> dependencies() {
        List<String> modules = session.getProjects().stream()
                .map(it -> it.getGroupId() + ":" + it.getArtifactId() + ":" + it.getVersion())
                .collect(Collectors.toList());
        TreeMap<String, Artifact> found = new TreeMap<>();
        for (MavenProject project : session.getProjects()) {
            for (Artifact it : project.getArtifacts()) {
                if (it.getFile() != null && !"system".equals(it.getScope())
                        && !modules.contains(what(it))) {
                    found.put(path(it), it);
                }
            }
        }
        return found.values();
    }

    static String what(Artifact it) {
        return it.getGroupId() + ":" + it.getArtifactId() + ":" + it.getBaseVersion();
    }

    static String file(Artifact it) {
        String classifier = it.getClassifier() == null || it.getClassifier().isEmpty() ? ""
                : "-" + it.getClassifier();
        return it.getArtifactId() + "-" + it.getBaseVersion() + classifier + "."
                + it.getArtifactHandler().getExtension();
    }

    static String folder(Artifact it) {
        return it.getGroupId().replace('.', '/') + "/" + it.getArtifactId() + "/"
                + it.getBaseVersion() + "/";
    }

    /** Its path in a repository. */
    static String path(Artifact it) {
        return folder(it) + file(it);
    }

    /** What the log has of the package, but for what was withdrawn; nothing if it lacks it. */
    static List<LogEntry> entries(EmbeddedNode node, Artifact it) throws IOException {
        return node.entries(what(it));
    }
}
