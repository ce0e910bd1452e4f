"""The edge: S3, DynamoDB, Step Functions, EventBridge. Nothing here decides."""
