"""The files of a run folder, by name: who writes one and who reads it have nothing else in common."""

# Of kzoo.training
CONFIG, RESULTS, STATE, ENVIRONMENT = "config.yaml", "results.csv", "state.json", "environment.json"
BEST, LAST, LEFT_OUT = "best.keras", "last.keras", "left_out.csv"

# Of kzoo.report and the command line
SUMMARY, EVALUATION, EXPORTS, BENCHMARK = "summary.json", "evaluation.json", "exports.json", "benchmark.json"
REPORT = "report.html"
PICTURES = {
    "curves": "results.png",
    "precision_recall": "precision_recall.png",
    "f1": "f1.png",
    "confusion": "confusion_matrix.png",
    "labels": "labels.png",
    "batch": "training_batch.jpg",
    "comparison": "predictions.jpg",
    "worst": "worst_images.jpg",
}
