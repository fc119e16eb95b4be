/**
 * A core extension of Maven: files of repositories come from a kogge network if its log has them.
 *
 * <p>{@link KoggeTransporterFactory} stands before Maven's own transporters, {@link KoggeTransporter}
 * decides file by file, {@link KoggeSource} has the node of the build, {@link EmbeddedNode} is the only
 * class that touches the native library. Whatever fails here, the repository is asked as ever.
 */
package dev.kogge.maven;
